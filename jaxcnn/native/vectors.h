// Vectors of the machine's width, by the compiler's own extension.
#ifndef JAXCNN_VECTORS_H_
#define JAXCNN_VECTORS_H_

#include <cstdint>
#include <cstring>
#include <utility>

namespace jaxcnn {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

// L numbers side by side; L = 1 is a plain number.
template <typename T, int L>
struct Vector {
  typedef T Type __attribute__((vector_size(L * sizeof(T))));
};
template <typename T>
struct Vector<T, 1> {
  typedef T Type;
};

template <typename T, int L>
using Vec = typename Vector<T, L>::Type;

template <typename T, int L>
inline Vec<T, L> load(const T* from) {
  Vec<T, L> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <typename T, int L>
inline void store(T* to, Vec<T, L> v) {
  std::memcpy(to, &v, sizeof(v));
}

template <typename T, int L>
inline void add_to(T* to, Vec<T, L> v) {
  store<T, L>(to, load<T, L>(to) + v);
}

// A block of pixels or numbers: all that it calls becomes part of it, and it part of nothing else,
// because its sums and addresses need all registers.
#define JAXCNN_BLOCK [[gnu::noinline, gnu::flatten]] inline

// Call f for 0, ..., N - 1, as constants. An array of vectors that is indexed by nothing else stays
// in registers from its beginning to its end; loops would put it into memory before and after.
template <int N, typename F>
inline void unrolled(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (f(std::integral_constant<int, I>()), ...);
  }(std::make_integer_sequence<int, N>());
}

inline constexpr std::integral_constant<int, 0> kFirst;  // as `unrolled` gives it

// Load or store only some of a vector's numbers; all, if there are that many.
template <typename T, int L>
inline Vec<T, L> load_some(const T* from, int64_t count) {
  if (count >= L) return load<T, L>(from);
  T some[L] = {};
  std::memcpy(some, from, count * sizeof(T));
  return load<T, L>(some);
}

template <typename T, int L>
inline void store_some(T* to, Vec<T, L> v, int64_t count) {
  if (count >= L) return store<T, L>(to, v);
  std::memcpy(to, &v, count * sizeof(T));
}

// Bring numbers into the second cache, in the order of the memory, which is the fast one: to read
// them or, with kWrite = 1, to write them.
template <int kWrite = 0, typename T>
inline void fetch(const T* from, const T* to) {
  constexpr int64_t kStep = 64 / sizeof(T);
  for (; from < to; from += kStep) __builtin_prefetch(from, kWrite, 2);
}

}  // namespace jaxcnn

#endif
