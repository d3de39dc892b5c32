// Memory that is only written before it is read: it is not filled with zeros, and a vector of
// numbers lies in as few lines of the cache as it can.
#ifndef JAXCNN_BUFFER_H_
#define JAXCNN_BUFFER_H_

#include <cstdint>
#include <memory>

namespace jaxcnn {

// A line of the cache.
struct alignas(64) Line {
  unsigned char bytes[64];
};

template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t numbers) { reserve(numbers); }

  // Have room for so many numbers; what was there may be lost.
  T* reserve(int64_t numbers) {
    if (numbers > room_) {
      constexpr int64_t kLine = sizeof(Line) / sizeof(T);
      lines_.reset(new Line[numbers / kLine + 1]);
      room_ = numbers;
    }
    return data();
  }

  T* data() const { return reinterpret_cast<T*>(lines_.get()); }

 private:
  std::unique_ptr<Line[]> lines_;
  int64_t room_ = 0;
};

}  // namespace jaxcnn

#endif
