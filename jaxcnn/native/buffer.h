// Memory that is only written before it is read: it is not filled with zeros, and a vector of
// numbers lies in as few lines of the cache as it can.
#ifndef JAXCNN_BUFFER_H_
#define JAXCNN_BUFFER_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace jaxcnn {

// A line of the cache.
struct alignas(64) Line {
  unsigned char bytes[64];
};

// What a thread's buffers gave back, for its next ones. The C library's memory is all threads', who
// wait for one another there; and after a compiler has left many pieces of it behind, it takes long
// to find a large one.
class Spare {
 public:
  struct Block {
    std::unique_ptr<Line[]> lines;
    int64_t count = 0;
  };

  static Spare& of_thread() {
    thread_local Spare spare;
    return spare;
  }

  // The smallest block that is large enough; else a new one in place of the largest.
  Block take(int64_t count) {
    const auto begin = blocks_.begin(), end = blocks_.end();
    auto found = std::find_if(begin, end, [&](const Block& b) { return b.count >= count; });
    Block block;
    if (found != end)
      block = std::move(*found);
    else
      block = {std::unique_ptr<Line[]>(new Line[count]), count};
    if (found == end && begin != end) --found;
    if (begin != end) blocks_.erase(found);
    return block;
  }

  void give(Block block) {
    auto larger = [&](const Block& b) { return b.count >= block.count; };
    blocks_.insert(std::find_if(blocks_.begin(), blocks_.end(), larger), std::move(block));
  }

 private:
  std::vector<Block> blocks_;  // the smaller first
};

template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t numbers) { reserve(numbers); }
  Buffer(Buffer&& other) noexcept : block_(std::exchange(other.block_, {})) {}
  ~Buffer() { release(); }

  // Have room for so many numbers; what was there may be lost.
  T* reserve(int64_t numbers) {
    constexpr int64_t kLine = sizeof(Line) / sizeof(T);
    if (const int64_t lines = (numbers + kLine - 1) / kLine; lines > block_.count) {
      release();
      block_ = Spare::of_thread().take(lines);
    }
    return data();
  }

  T* data() const { return reinterpret_cast<T*>(block_.lines.get()); }

  T& operator[](int64_t i) const { return data()[i]; }

 private:
  void release() {
    if (block_.lines) Spare::of_thread().give(std::exchange(block_, {}));
  }

  Spare::Block block_;
};

}  // namespace jaxcnn

#endif
