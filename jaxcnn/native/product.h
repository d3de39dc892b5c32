// Products of matrices, for windows of one pixel that see few pixels: the kernel is not copied as a
// whole, which would take as long as the product.
#ifndef JAXCNN_PRODUCT_H_
#define JAXCNN_PRODUCT_H_

#include <algorithm>
#include <memory>
#include <utility>

#include "buffer.h"
#include "chunks.h"
#include "geometry.h"
#include "parallel.h"
#include "vectors.h"

namespace jaxcnn {

// The number of a row and a column is at data[row * down + column * across].
template <typename T>
struct Matrix {
  T* data;
  int64_t rows, columns, down, across;

  T* at(int64_t row, int64_t column) const { return data + row * down + column * across; }

  Matrix transposed() const { return {data, columns, rows, across, down}; }
};

// Columns of a block, which are two vectors, and its rows: their sums fill most of the registers.
template <typename T>
inline constexpr int kProductColumns = 2 * kLanes<T>;
inline constexpr int kProductRows = kMostVectors == 4 ? 12 : 6;

// to(p, v) = bias[v] + sum over k of a(p, k) panel[k][v], of the columns of `to` that are there.
template <typename T, int P>
JAXCNN_BLOCK void product_block(const Matrix<const T>& a, const T* panel, const T* bias,
                                const Matrix<T>& to) {
  constexpr int L = kLanes<T>, V = kProductColumns<T> / L;
  const int64_t down = a.down, across = a.across, count = a.columns;
  auto left = [&](int64_t v) { return std::max<int64_t>(to.columns - v * L, 0); };
  Vec<T, L> sums[P][V];
  unrolled<V>([&](auto v) {
    const Vec<T, L> b = bias ? load_some<T, L>(bias + v * L, left(v)) : Vec<T, L>();
    unrolled<P>([&](auto p) { sums[p][v] = b; });
  });
  const T* x = a.data;
  for (int64_t k = 0; k < count; ++k, x += across, panel += V * L) {
    Vec<T, L> w[V];
    unrolled<V>([&](auto v) { w[v] = load<T, L>(panel + v * L); });
    unrolled<P>([&](auto p) { unrolled<V>([&](auto v) { sums[p][v] += x[p * down] * w[v]; }); });
  }
  if (to.across == 1) {
    unrolled<P>([&](auto p) {
      unrolled<V>([&](auto v) { store_some<T, L>(to.at(p, v * L), sums[p][v], left(v)); });
    });
    return;
  }
  T all[P][V * L];
  unrolled<P>(
      [&](auto p) { unrolled<V>([&](auto v) { store<T, L>(&all[p][v * L], sums[p][v]); }); });
  for (int64_t c = 0; c < to.columns; ++c)
    for (int64_t p = 0; p < P; ++p) *to.at(p, c) = all[p][c];
}

// Copy columns side by side; blocks of them both ways, so that lines of the cache are read whole.
template <typename T>
void pack_panel(const Matrix<const T>& from, int64_t column, int64_t kept, T* to) {
  constexpr int64_t kWidth = kProductColumns<T>, kLine = sizeof(Line) / sizeof(T);
  for (int64_t first = 0; first < from.rows; first += kLine) {
    const int64_t end = std::min(from.rows, first + kLine);
    if (from.across == 1) {
      for (int64_t k = first; k < end; ++k) {
        std::copy_n(from.at(k, column), kept, to + k * kWidth);
        std::fill_n(to + k * kWidth + kept, kWidth - kept, T(0));
      }
      continue;
    }
    for (int64_t c = 0; c < kWidth; ++c)
      for (int64_t k = first; k < end; ++k)
        to[k * kWidth + c] = c < kept ? *from.at(k, column + c) : T(0);
  }
}

// to = a b + bias, a number a column or null.
template <typename T>
void multiply(ThreadPool& pool, const Matrix<const T>& a, const Matrix<const T>& b, const T* bias,
              const Matrix<T>& to) {
  constexpr int64_t kWidth = kProductColumns<T>;
  const int64_t panels = (to.columns + kWidth - 1) / kWidth;
  const int64_t blocks = (to.rows + kProductRows - 1) / kProductRows;
  const int64_t wanted = 4 * std::max<int64_t>(pool.num_threads(), 1);
  const int64_t slices = std::clamp<int64_t>((wanted + panels - 1) / panels, 1, blocks);
  auto begin = [&] {
    auto packed = std::make_shared<Buffer<T>>(b.rows * kWidth);
    return [&, packed, last = int64_t{-1}](int64_t task) mutable {
      const int64_t panel = task / slices, slice = task % slices, column = panel * kWidth;
      const int64_t kept = std::min(kWidth, to.columns - column);
      if (std::exchange(last, panel) != panel) pack_panel(b, column, kept, packed->data());
      const int64_t end = std::min(to.rows, blocks * (slice + 1) / slices * kProductRows);
      int64_t row = blocks * slice / slices * kProductRows;
      auto rows = [&]<int P>() {
        for (; row + P <= end; row += P)
          product_block<T, P>({a.at(row, 0), P, a.columns, a.down, a.across}, packed->data(),
                              bias ? bias + column : nullptr,
                              {to.at(row, column), P, kept, to.down, to.across});
      };
      rows.template operator()<kProductRows>();
      rows.template operator()<kProductRows * 2 / 3>();
      rows.template operator()<kProductRows / 3>();
      rows.template operator()<1>();
    };
  };
  parallel(pool, {{panels * slices, begin}});
}

// Whether a convolution is a product of its pixels and its kernel's numbers, and one of the kind
// that is faster so; its images and outputs may change places.
template <typename S, typename K, typename R>
bool is_product(const Array<S>& source, const Array<K>& kernel, const Array<R>& target,
                const Axis axes[2], int64_t groups) {
  const int64_t pixels = source.n * source.h * source.w, depth = std::max(source.c, target.c);
  auto plain = [](const Axis& axis) {
    return axis.taps == 1 && axis.stride == 1 && axis.before == 0 && axis.images == axis.outputs;
  };
  return groups == 1 && plain(axes[0]) && plain(axes[1]) && pixels > 0 && pixels <= 256 &&
         depth <= 4096 && kernel.w * kernel.c > 0;
}

// The pixels of an array, a row each.
template <typename T>
Matrix<T> pixels_of(const Array<T>& array) {
  return {array.data, array.n * array.h * array.w, array.c, array.c, 1};
}

// The numbers of a kernel of one pixel, a row each source channel.
template <typename T>
Matrix<T> numbers_of(const Array<T>& kernel) {
  return {kernel.data, kernel.w, kernel.c, kernel.c, 1};
}

}  // namespace jaxcnn

#endif
