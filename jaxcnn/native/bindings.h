// XLA's buffers as arrays, and what functions are bound to.
#ifndef JAXCNN_BINDINGS_H_
#define JAXCNN_BINDINGS_H_

#include "geometry.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace jaxcnn {

namespace ffi = xla::ffi;

template <typename T, typename Buffer>
Array<T> array(Buffer&& buffer, T* data) {
  const auto dims = buffer.dimensions();
  return {data, dims[0], dims[1], dims[2], dims[3]};
}

template <ffi::DataType kType>
auto input(ffi::Buffer<kType>& buffer) {
  return array<const ffi::NativeType<kType>>(buffer, buffer.typed_data());
}

template <ffi::DataType kType>
auto output(ffi::ResultBuffer<kType>& buffer) {
  return array<ffi::NativeType<kType>>(*buffer, buffer->typed_data());
}

// Of one array.
template <ffi::DataType kType>
auto one_array() {
  return ffi::Ffi::Bind().Ctx<ThreadPool>().template Arg<ffi::Buffer<kType>>();
}

// Of two arrays.
template <ffi::DataType kType>
auto arrays() {
  return one_array<kType>().template Arg<ffi::Buffer<kType>>();
}

// Of two, and of others that may be there.
template <ffi::DataType kType>
auto arrays_and_others() {
  return arrays<kType>().RemainingArgs();
}

// The places of maxima, and another.
template <ffi::DataType kType>
auto places() {
  using Buffer = ffi::Buffer<kType>;
  using Places = ffi::Buffer<ffi::S8>;
  return ffi::Ffi::Bind().Ctx<ThreadPool>().template Arg<Places>().template Arg<Buffer>();
}

// Of three.
template <ffi::DataType kType>
auto more_arrays() {
  return arrays<kType>().template Arg<ffi::Buffer<kType>>();
}

// Of numbers, images and three numbers a channel, and of others that may be there.
template <ffi::DataType kType>
auto norm_arrays() {
  using Buffer = ffi::Buffer<kType>;
  return more_arrays<kType>().template Arg<Buffer>().template Arg<Buffer>().RemainingArgs();
}

// Of five small ones, by the calling thread.
template <ffi::DataType kType>
auto five_arrays() {
  using Buffer = ffi::Buffer<kType>;
  return ffi::Ffi::Bind()
      .template Arg<Buffer>()
      .template Arg<Buffer>()
      .template Arg<Buffer>()
      .template Arg<Buffer>()
      .template Arg<Buffer>();
}

// Of numbers, and of any arrays and results.
template <ffi::DataType kType>
auto many_arrays() {
  return ffi::Ffi::Bind()
      .Ctx<ThreadPool>()
      .template Arg<ffi::Buffer<kType>>()
      .RemainingArgs()
      .RemainingRets();
}

}  // namespace jaxcnn

#endif
