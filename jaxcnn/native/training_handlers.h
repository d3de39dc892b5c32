// What a train step needs beside convolutions.
//
// `hold` is the identity on any arrays; `join` puts images side by side in their channels.
//
// Of images x and centres m (C), two numbers a channel (C): `moments` are their mean and the mean
// of their squared distances from it, `products` the sums of numbers a and of a (x - m). `normal`
// and `norm_gradient` are these and what follows from them for a batch norm, where a last array may
// say which images count (N); `running` is what its running statistics become (norm.h); `sgd`,
// `adam` and `adagrad` are steps of all parameters (steps.h).
#ifndef JAXCNN_TRAINING_HANDLERS_H_
#define JAXCNN_TRAINING_HANDLERS_H_

#include <cmath>
#include <cstring>
#include <vector>

#include "bindings.h"
#include "join.h"
#include "norm.h"
#include "steps.h"
#include "sums.h"
#include "xla/ffi/api/ffi.h"

namespace jaxcnn {

template <ffi::DataType kType>
ffi::Error moments(ThreadPool pool, ffi::Buffer<kType> images, ffi::ResultBuffer<kType> mean,
                   ffi::ResultBuffer<kType> variance) {
  using T = ffi::NativeType<kType>;
  find_normal<T>(pool, input(images), nullptr, nullptr, 0,
                 {mean->typed_data(), variance->typed_data()});
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error products(ThreadPool pool, ffi::Buffer<kType> numbers, ffi::Buffer<kType> images,
                    ffi::Buffer<kType> centre, ffi::ResultBuffer<kType> sums,
                    ffi::ResultBuffer<kType> products) {
  using T = ffi::NativeType<kType>;
  const auto a = input(numbers), x = input(images);
  const Summed<T> of{a.data, x.data, centre.typed_data(), x.n * x.h * x.w, x.c};
  Sum<Term::kProducts, T> both(pool, of, 1, sums->typed_data(), products->typed_data());
  parallel(pool, {both.shares(), both.total()});
  return ffi::Error::Success();
}

// Which images count, where there is an array that says so, or null.
inline ffi::ErrorOr<const bool*> which_count(ffi::RemainingArgs& given) {
  if (given.size() == 0) return nullptr;
  auto counts = given.get<ffi::Buffer<ffi::PRED>>(0);
  if (counts.has_error()) return ffi::Unexpected(counts.error());
  return counts->typed_data();
}

template <ffi::DataType kType>
ffi::Error normal(ThreadPool pool, ffi::Buffer<kType> images, ffi::Buffer<kType> scale,
                  ffi::RemainingArgs given, ffi::ResultBuffer<kType> mean,
                  ffi::ResultBuffer<kType> variance, ffi::ResultBuffer<kType> inverse,
                  ffi::ResultBuffer<kType> factor, double eps) {
  using T = ffi::NativeType<kType>;
  const auto counts = which_count(given);
  if (counts.has_error()) return counts.error();
  find_normal<T>(
      pool, input(images), *counts, scale.typed_data(), eps,
      {mean->typed_data(), variance->typed_data(), inverse->typed_data(), factor->typed_data()});
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error norm_gradient(ThreadPool pool, ffi::Buffer<kType> numbers, ffi::Buffer<kType> images,
                         ffi::Buffer<kType> mean, ffi::Buffer<kType> inverse,
                         ffi::Buffer<kType> factor, ffi::RemainingArgs given,
                         ffi::ResultBuffer<kType> bias, ffi::ResultBuffer<kType> scale,
                         ffi::ResultBuffer<kType> slope, ffi::ResultBuffer<kType> offset) {
  using T = ffi::NativeType<kType>;
  const auto counts = which_count(given);
  if (counts.has_error()) return counts.error();
  find_gradient<T>(
      pool, numbers.typed_data(), input(images), *counts, mean.typed_data(), inverse.typed_data(),
      factor.typed_data(),
      {bias->typed_data(), scale->typed_data(), slope->typed_data(), offset->typed_data()});
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error running(ffi::Buffer<kType> ratio, ffi::Buffer<kType> batch_mean,
                   ffi::Buffer<kType> batch_variance, ffi::Buffer<kType> mean,
                   ffi::Buffer<kType> variance, ffi::ResultBuffer<kType> new_mean,
                   ffi::ResultBuffer<kType> new_variance, double weight) {
  const int64_t channels = mean.element_count();
  move(mean.typed_data(), batch_mean.typed_data(), weight, 1, channels, new_mean->typed_data());
  move(variance.typed_data(), batch_variance.typed_data(), weight, ratio.typed_data()[0], channels,
       new_variance->typed_data());
  return ffi::Error::Success();
}

// Of all gradients, all parameters, and all of each state array, for the new parameters and the
// new state.
template <ffi::DataType kType>
ffi::ErrorOr<std::vector<Stepped<ffi::NativeType<kType>>>> all_stepped(
    ffi::RemainingArgs& arrays, ffi::RemainingRets& results) {
  const size_t count = arrays.size() - results.size();
  std::vector<Stepped<ffi::NativeType<kType>>> all(count);
  for (size_t i = 0; i < arrays.size(); ++i) {
    auto array = arrays.get<ffi::Buffer<kType>>(i);
    if (array.has_error()) return ffi::Unexpected(array.error());
    auto& one = all[i % count];
    const size_t which = i / count;
    (which == 0   ? one.gradient
     : which == 1 ? one.parameter
                  : one.slots[which - 2]) = array->typed_data();
    one.count = array->element_count();
  }
  for (size_t i = 0; i < results.size(); ++i) {
    auto array = results.get<ffi::Buffer<kType>>(i);
    if (array.has_error()) return ffi::Unexpected(array.error());
    auto& one = all[i % count];
    (i < count ? one.to_parameter : one.to_slots[i / count - 1]) = (*array)->typed_data();
  }
  return all;
}

// The numbers are those of `Now`; a momentum that is one comes before theirs.
template <ffi::DataType kType>
Now now(ffi::Buffer<kType>& numbers, double momentum) {
  const auto* from = numbers.typed_data();
  return {from[0], std::isnan(momentum) ? from[1] : momentum, from[2]};
}

template <ffi::DataType kType>
ffi::Error sgd(ThreadPool pool, ffi::Buffer<kType> numbers, ffi::RemainingArgs arrays,
               ffi::RemainingRets results, double momentum, double weight_decay, bool nesterov,
               bool maximize) {
  using T = ffi::NativeType<kType>;
  auto all = all_stepped<kType>(arrays, results);
  if (all.has_error()) return all.error();
  const Now by = now(numbers, momentum);
  const T rate = by.rate, beta = by.momentum, decay = weight_decay, sign = maximize ? -1 : 1;
  if (results.size() > all->size())
    step_all(pool, Sgd<T, true>{rate, beta, decay, sign, nesterov}, *all);
  else
    step_all(pool, Sgd<T, false>{rate, beta, decay, sign, false}, *all);
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error adam(ThreadPool pool, ffi::Buffer<kType> numbers, ffi::RemainingArgs arrays,
                ffi::RemainingRets results, double momentum, double beta2, double eps,
                double weight_decay, bool decoupled, bool maximize) {
  using T = ffi::NativeType<kType>;
  auto all = all_stepped<kType>(arrays, results);
  if (all.has_error()) return all.error();
  const Now by = now(numbers, momentum);
  if (results.size() > 3 * all->size())
    step_all(pool, Adam<T, true>(by, beta2, eps, weight_decay, decoupled, maximize), *all);
  else
    step_all(pool, Adam<T, false>(by, beta2, eps, weight_decay, decoupled, maximize), *all);
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error adagrad(ThreadPool pool, ffi::Buffer<kType> numbers, ffi::RemainingArgs arrays,
                   ffi::RemainingRets results, double momentum, double lr_decay, double eps,
                   double weight_decay, bool maximize) {
  using T = ffi::NativeType<kType>;
  auto all = all_stepped<kType>(arrays, results);
  if (all.has_error()) return all.error();
  const Now by = now(numbers, momentum);
  const T rate = by.rate / (1 + (by.number - 1) * lr_decay);
  step_all(pool, Adagrad<T>{rate, T(eps), T(weight_decay), T(maximize ? -1 : 1)}, *all);
  return ffi::Error::Success();
}

// Images side by side in their channels.
template <ffi::DataType kType>
ffi::Error join(ThreadPool pool, ffi::RemainingArgs images, ffi::ResultBuffer<kType> joined) {
  using T = ffi::NativeType<kType>;
  std::vector<Array<const T>> parts;
  for (size_t i = 0; i < images.size(); ++i) {
    auto part = images.get<ffi::Buffer<kType>>(i);
    if (part.has_error()) return part.error();
    parts.push_back(input(*part));
  }
  join_channels(pool, parts, output(joined));
  return ffi::Error::Success();
}

// The arrays as they are; XLA gives the results the arguments' memory where it can.
inline ffi::Error hold(ffi::RemainingArgs arrays, ffi::RemainingRets results) {
  for (size_t i = 0; i < arrays.size(); ++i) {
    auto from = arrays.get<ffi::AnyBuffer>(i);
    auto to = results.get<ffi::AnyBuffer>(i);
    if (from.has_error()) return from.error();
    if (to.has_error()) return to.error();
    if (from->untyped_data() != (*to)->untyped_data())
      std::memcpy((*to)->untyped_data(), from->untyped_data(), from->size_bytes());
  }
  return ffi::Error::Success();
}

}  // namespace jaxcnn

#endif
