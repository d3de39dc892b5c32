// Channels cut into the sizes for which there are blocks.
#ifndef JAXCNN_CHUNKS_H_
#define JAXCNN_CHUNKS_H_

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace jaxcnn {

struct Chunk {
  int64_t offset;
  int lanes, vectors;

  int64_t channels() const { return lanes * vectors; }

  // Channels that are there, where a chunk may be wider than what is left.
  int64_t kept(int64_t channels) const { return std::min(channels - offset, this->channels()); }
};

template <typename T>
inline constexpr int kLanes = kVectorBytes / sizeof(T);

// Bytes of the second cache that a thread may count on.
inline constexpr int64_t kSecondCache = 1 << 21;

// So many turns ahead a loop asks for what it streams out of the second cache.
inline constexpr int kAhead = 24;

// What the sums of a block leave of the registers holds its weights: 24 sums of 32 with AVX-512.
#if defined(__AVX512F__)
inline constexpr int kMostVectors = 4, kWidePixels = 6;
#else
inline constexpr int kMostVectors = 2, kWidePixels = 4;
#endif

// Pixels, or channels, of a block of V vectors.
template <int V>
inline constexpr int kPixels = V == kMostVectors ? kWidePixels : 8;

template <typename T>
inline constexpr int kFewestLanes = kLanes<T> < 4 ? 1 : kLanes<T> / 4;

// With `wider` the last chunk may have lanes to spare.
template <typename T>
std::vector<Chunk> chunks(int64_t channels, bool wider = false) {
  std::vector<Chunk> found;
  for (int64_t at = 0; at < channels;) {
    const int64_t left = channels - at;
    int lanes = kLanes<T>, vectors = 1;
    while (lanes > left) lanes /= 2;
    if (lanes < kFewestLanes<T>) lanes = wider ? kFewestLanes<T> : 1;
    if (lanes == kLanes<T>)
      while (vectors < kMostVectors && 2 * vectors * lanes <= left) vectors *= 2;
    found.push_back({at, lanes, vectors});
    at += found.back().channels();
  }
  return found;
}

// Call f<L, V>() for a chunk's lanes and vectors; kWider, as `chunks` was given it.
template <typename T, bool kWider = false, typename F>
void dispatch(const Chunk& chunk, F&& f) {
  constexpr int L = kLanes<T>;
  if (chunk.vectors == 4) {
    if constexpr (kMostVectors == 4) f.template operator()<L, 4>();
  } else if (chunk.vectors == 2) {
    f.template operator()<L, 2>();
  } else if (chunk.lanes == L) {
    f.template operator()<L, 1>();
  } else if (chunk.lanes == L / 2) {
    f.template operator()<L / 2, 1>();
  } else if (chunk.lanes == kFewestLanes<T>) {
    f.template operator()<kFewestLanes<T>, 1>();
  } else if constexpr (!kWider) {
    f.template operator()<1, 1>();
  }
}

}  // namespace jaxcnn

#endif
