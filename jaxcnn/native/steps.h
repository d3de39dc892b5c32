// Steps of optimizers, of all parameters at once.
#ifndef JAXCNN_STEPS_H_
#define JAXCNN_STEPS_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "parallel.h"

namespace jaxcnn {

inline constexpr int kMostSlots = 3;

// A gradient, its parameter, and the state arrays of both, side by side. What is new may be in the
// place of what was there.
template <typename T>
struct Stepped {
  const T *gradient, *parameter;
  T* to_parameter;
  std::array<const T*, kMostSlots> slots;
  std::array<T*, kMostSlots> to_slots;
  int64_t count;

  Stepped part(int64_t at, int64_t count) const {
    Stepped found{gradient + at, parameter + at, to_parameter + at, slots, to_slots, count};
    for (int slot = 0; slot < kMostSlots; ++slot) {
      if (slots[slot]) found.slots[slot] += at;
      if (slots[slot]) found.to_slots[slot] += at;
    }
    return found;
  }
};

// What every step knows: the learning rate, the momentum or first beta, the step's number from 1.
struct Now {
  double rate, momentum, number;
};

// A decay of 0 makes no NaN of a weight that is infinite.
template <typename T>
T decayed(T g, T decay, T w) {
  return decay == 0 ? g : g + decay * w;
}

// A rule returns what is added to the parameter w of gradient g, and renews its state.
template <typename T, bool kMomentum>
struct Sgd {
  static constexpr int kSlots = kMomentum;
  T rate, momentum, decay, sign;
  bool nesterov;

  T operator()(T g, T w, T* slots) const {
    g = decayed(sign * g, decay, w);
    if constexpr (kMomentum) {
      slots[0] = g + momentum * slots[0];
      g = nesterov ? g + momentum * slots[0] : slots[0];
    }
    return -rate * g;
  }
};

template <typename T, bool kAmsgrad>
struct Adam {
  static constexpr int kSlots = kAmsgrad ? 3 : 2;
  T rate, step, root, first, second, eps, coupled, decoupled, sign;

  Adam(const Now& now, double beta2, double eps, double decay, bool decoupled, bool maximize)
      : rate(now.rate),
        step(now.rate / -std::expm1(now.number * std::log(now.momentum))),
        root(std::sqrt(-std::expm1(now.number * std::log(beta2)))),
        first(1 - now.momentum),
        second(1 - beta2),
        eps(eps),
        coupled(decoupled ? 0 : decay),
        decoupled(decoupled ? now.rate * decay : 0),
        sign(maximize ? -1 : 1) {}

  T operator()(T g, T w, T* slots) const {
    g = decayed(sign * g, coupled, w);
    slots[0] += first * (g - slots[0]);
    slots[1] += second * (g * g - slots[1]);
    T square = slots[1];
    if constexpr (kAmsgrad)  // a NaN is the larger one
      square = slots[2] = slots[2] >= square ? slots[2] : square;
    return decayed(-step * (slots[0] / (std::sqrt(square) / root + eps)), -decoupled, w);
  }
};

template <typename T>
struct Adagrad {
  static constexpr int kSlots = 1;
  T rate, eps, decay, sign;

  T operator()(T g, T w, T* slots) const {
    g = decayed(sign * g, decay, w);
    slots[0] += g * g;
    return -rate * (g / (std::sqrt(slots[0]) + eps));
  }
};

template <typename T, typename Rule>
void step(const Rule by, const Stepped<T>& all) {
  const Stepped<T> of = all;
// Every number for itself: that new ones are in the place of old ones hinders no vectors.
#if defined(__clang__)
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
  for (int64_t i = 0; i < of.count; ++i) {
    T slots[std::max(Rule::kSlots, 1)];
    for (int slot = 0; slot < Rule::kSlots; ++slot) slots[slot] = of.slots[slot][i];
    const T w = of.parameter[i];
    of.to_parameter[i] = w + by(of.gradient[i], w, slots);
    for (int slot = 0; slot < Rule::kSlots; ++slot) of.to_slots[slot][i] = slots[slot];
  }
}

template <typename T, typename Rule>
void step_all(ThreadPool& pool, const Rule& by, const std::vector<Stepped<T>>& all) {
  constexpr int64_t kMost = 1 << 14;  // of all arrays together in the second cache
  std::vector<Stepped<T>> parts;
  for (const Stepped<T>& one : all)
    for (int64_t at = 0; at < one.count; at += kMost)
      parts.push_back(one.part(at, std::min(kMost, one.count - at)));
  parallel(pool, parts.size(), [&](int64_t task) { step(by, parts[task]); });
}

}  // namespace jaxcnn

#endif
