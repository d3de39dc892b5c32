// What a batch norm computes of every channel, for its images and for their gradient.
#ifndef JAXCNN_NORM_H_
#define JAXCNN_NORM_H_

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "sums.h"

namespace jaxcnn {

// How many pixels are in the images that count; null: in all.
template <typename T>
int64_t counted(const Array<const T>& x, const bool* counts) {
  return (counts ? std::count(counts, counts + x.n, true) : x.n) * x.h * x.w;
}

// Of each channel: the mean, the mean of the squared distances from it, 1 / sqrt(that + eps), and
// this times the scale.
template <typename T>
struct Normal {
  T *mean, *variance, *inverse, *factor;
};

template <typename T>
void find_normal(ThreadPool& pool, const Array<const T>& x, const bool* counts, const T* scale,
                 double eps, const Normal<T>& to) {
  const int64_t count = counted(x, counts);
  const Summed<T> of{nullptr, x.data, to.mean, x.n * x.h * x.w, x.c, counts, x.h * x.w};
  Sum<Term::kNumbers, T> numbers(pool, of, count, to.mean);
  Sum<Term::kSquares, T> squares(pool, of, count, to.variance);
  const auto follow = [&] {
    for (int64_t c = 0; scale && c < x.c; ++c) {
      to.inverse[c] = 1 / std::sqrt(to.variance[c] + eps);
      to.factor[c] = scale[c] * to.inverse[c];
    }
  };
  parallel(pool, {numbers.shares(), numbers.total(), squares.shares(), squares.total(follow)});
}

// The gradient of (x - mean) inverse scale + bias by the bias and by the scale; its gradient by x
// is factor a, and slope (x - mean) + offset more where x counts, if a is the gradient of what
// follows: of all images, for all are normalised.
template <typename T>
struct NormGradient {
  T *bias, *scale, *slope, *offset;
};

template <typename T>
void find_gradient(ThreadPool& pool, const T* a, const Array<const T>& x, const bool* counts,
                   const T* mean, const T* inverse, const T* factor, const NormGradient<T>& to) {
  const int64_t count = counted(x, counts);
  const Summed<T> of{a, x.data, mean, x.n * x.h * x.w, x.c};
  Sum<Term::kProducts, T> both(pool, of, 1, to.bias, to.scale);
  const auto follow = [&] {
    for (int64_t c = 0; c < x.c; ++c) {
      const double inverse_c = inverse[c], factor_c = factor[c], product = to.scale[c];
      to.scale[c] = product * inverse_c;
      to.slope[c] = -factor_c * inverse_c * inverse_c * product / count;
      to.offset[c] = -factor_c * to.bias[c] / count;
    }
  };
  parallel(pool, {both.shares(), both.total(follow)});
}

// The running mean and variance, a share of the way to the batch's.
template <typename T>
void move(const T* running, const T* found, double weight, double ratio, int64_t channels, T* to) {
  for (int64_t c = 0; c < channels; ++c)
    to[c] = (1 - weight) * running[c] + weight * (ratio * found[c]);
}

}  // namespace jaxcnn

#endif
