// A max pool's gradient.
#ifndef JAXCNN_UNPOOL_H_
#define JAXCNN_UNPOOL_H_

#include <algorithm>

#include "chunks.h"
#include "geometry.h"
#include "parallel.h"

namespace jaxcnn {

// Add to C channels of a pixel the gradients of those whose place is the tap. Of 32 that nothing
// else points to the compiler makes vectors, of 16 it does not.
template <int C, typename T>
inline void add_where(const int8_t* __restrict places, int8_t tap, const T* __restrict gradients,
                      T* __restrict to) {
  if constexpr (C == 16 && kLanes<T> == 16) {
    const auto at = __builtin_convertvector(load<int8_t, C>(places), Vec<int32_t, C>);
    add_to<T, C>(to, at == int32_t(tap) ? load<T, C>(gradients) : Vec<T, C>());
  } else {
    for (int c = 0; c < C; ++c) to[c] += places[c] == tap ? gradients[c] : T(0);
  }
}

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
            int64_t c = 0;
            auto add = [&]<int C>() {
              for (; c + C <= channels; c += C) add_where<C>(place + c, tap, gradient + c, to + c);
            };
            add.template operator()<32>();
            add.template operator()<16>();
            add.template operator()<1>();
          }
        }
      }
    }
  });
}

}  // namespace jaxcnn

#endif
