// Images side by side in their channels.
#ifndef JAXCNN_JOIN_H_
#define JAXCNN_JOIN_H_

#include <algorithm>
#include <cstring>
#include <vector>

#include "geometry.h"
#include "parallel.h"

namespace jaxcnn {

template <typename T>
void join_channels(ThreadPool& pool, const std::vector<Array<const T>>& parts, const Array<T>& to) {
  constexpr int64_t kBytes = 1 << 16;  // of a task: they stay in the second cache
  const int64_t pixels = to.n * to.h * to.w, bytes = std::max<int64_t>(to.c * sizeof(T), 1);
  const int64_t many = std::max<int64_t>(kBytes / bytes, 1);
  parallel(pool, (pixels + many - 1) / many, [&](int64_t task) {
    const int64_t end = std::min((task + 1) * many, pixels);
    T* at = to.data + task * many * to.c;
    for (int64_t pixel = task * many; pixel < end; ++pixel)
      for (const Array<const T>& part : parts) {
        std::memcpy(at, part.data + pixel * part.c, part.c * sizeof(T));
        at += part.c;
      }
  });
}

}  // namespace jaxcnn

#endif
