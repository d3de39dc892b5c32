// A max pool's gradient.
#ifndef JAXCNN_UNPOOL_H_
#define JAXCNN_UNPOOL_H_

#include <algorithm>

#include "geometry.h"
#include "parallel.h"

namespace jaxcnn {

// Each pixel of the images is given the gradients of the windows whose maximum it was: `places` has
// the tap, counted row by row, of each.
template <typename T>
void scatter_maxima(ThreadPool& pool, const Array<const int8_t>& places,
                    const Array<const T>& gradients, const Array<T>& images, const Axis axes[2]) {
  const int64_t all = images.n * images.h, channels = images.c;
  const int64_t tasks = std::min(all, 8 * std::max<int64_t>(pool.num_threads(), 1));
  const Axis &rows = axes[0], &columns = axes[1];
  parallel(pool, tasks, [&](int64_t task) {
    for (int64_t at = all * task / tasks; at < all * (task + 1) / tasks; ++at) {
      const int64_t image = at / images.h, y = at % images.h;
      std::fill_n(images.at(image, y, 0), images.w * channels, T(0));
      for (int64_t i = 0; i < rows.taps; ++i) {
        const int64_t ahead = y + rows.before - i * rows.dilation, row = ahead / rows.stride;
        if (ahead < 0 || ahead % rows.stride != 0 || row >= rows.outputs) continue;
        for (int64_t j = 0; j < columns.taps; ++j) {
          const int8_t tap = i * columns.taps + j;
          const auto [begin, end] = columns.inside(j);
          for (int64_t column = begin; column < end; ++column) {
            const int8_t* place = places.at(image, row, column);
            const T* gradient = gradients.at(image, row, column);
            T* to = images.at(image, y, columns.pixel(column, j));
            for (int64_t c = 0; c < channels; ++c) to[c] += place[c] == tap ? gradient[c] : T(0);
          }
        }
      }
    }
  });
}

}  // namespace jaxcnn

#endif
