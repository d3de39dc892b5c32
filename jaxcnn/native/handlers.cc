// Direct convolutions of NHWC images, their gradients and a max pool's, and sums of a batch norm,
// for XLA's CPU client.
//
// Three bilinear functions of images (N, H, W, C), kernels (kh, kw, C / groups, F) and outputs
// (N, OH, OW, F): `outputs` of images and kernel, `images` (their gradient) of outputs and kernel,
// `kernel` (its gradient) of images and outputs. To the outputs a bias (F) is added, of which there
// is none where it has no number. The attribute `window` has the strides, dilations and zeros
// before the images, (h, w) each, and the groups.
//
// `hold` is the identity on any arrays.
//
// Of images x and centres m (C), two numbers a channel (C): `moments` are their mean and the mean
// of their squared distances from it, `products` the sums of numbers a and of a (x - m).
#include <cstring>

#include "convolution.h"
#include "kernel_gradient.h"
#include "sums.h"
#include "unpool.h"
#include "xla/ffi/api/ffi.h"

namespace jaxcnn {
namespace {

namespace ffi = xla::ffi;
using Window = ffi::Span<const int64_t>;

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

// The axes of a window over arrays of any number type.
struct Axes {
  Axis axes[2];

  template <typename A, typename K, typename B>
  Axes(const A& images, const K& kernel, const B& outputs, Window window)
      : axes{{images.h, outputs.h, kernel.n, window[0], window[2], window[4]},
             {images.w, outputs.w, kernel.h, window[1], window[3], window[5]}} {}
};

template <ffi::DataType kType>
ffi::Error outputs(ThreadPool pool, ffi::Buffer<kType> images, ffi::Buffer<kType> kernel,
                   ffi::Buffer<kType> bias, ffi::ResultBuffer<kType> outputs, Window window) {
  const auto x = input(images), k = input(kernel);
  const auto y = output(outputs);
  using T = ffi::NativeType<kType>;
  const T* b = bias.element_count() > 0 ? bias.typed_data() : nullptr;
  convolve<T>(pool, x, k, b, y, Axes(x, k, y, window).axes, window[6], false);
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error images(ThreadPool pool, ffi::Buffer<kType> outputs, ffi::Buffer<kType> kernel,
                  ffi::ResultBuffer<kType> images, Window window) {
  const auto y = input(outputs), k = input(kernel);
  const auto x = output(images);
  using T = ffi::NativeType<kType>;
  convolve<T>(pool, y, k, nullptr, x, Axes(x, k, y, window).axes, window[6], true);
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error kernel(ThreadPool pool, ffi::Buffer<kType> images, ffi::Buffer<kType> outputs,
                  ffi::ResultBuffer<kType> kernel, Window window) {
  const auto x = input(images), y = input(outputs);
  const auto k = output(kernel);
  kernel_gradient(pool, x, y, k, Axes(x, k, y, window).axes, window[6]);
  return ffi::Error::Success();
}

// The window has the kernel's size in place of the groups.
template <ffi::DataType kType>
ffi::Error unpool(ThreadPool pool, ffi::Buffer<ffi::S8> places, ffi::Buffer<kType> gradients,
                  ffi::ResultBuffer<kType> images, Window window) {
  const auto p = input(places);
  const auto g = input(gradients);
  const auto x = output(images);
  const Axis axes[2] = {{x.h, g.h, window[6], window[0], window[2], window[4]},
                        {x.w, g.w, window[7], window[1], window[3], window[5]}};
  scatter_maxima(pool, p, g, x, axes);
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error moments(ThreadPool pool, ffi::Buffer<kType> images, ffi::ResultBuffer<kType> mean,
                   ffi::ResultBuffer<kType> variance) {
  using T = ffi::NativeType<kType>;
  const auto x = input(images);
  const int64_t pixels = x.n * x.h * x.w;
  const Summed<T> of{nullptr, x.data, mean->typed_data(), pixels, x.c};
  Sum<Term::kNumbers, T> numbers(pool, of, pixels, mean->typed_data());
  Sum<Term::kSquares, T> squares(pool, of, pixels, variance->typed_data());
  parallel(pool, {numbers.shares(), numbers.total(), squares.shares(), squares.total()});
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

// The arrays as they are; XLA gives the results the arguments' memory where it can.
ffi::Error hold(ffi::RemainingArgs arrays, ffi::RemainingRets results) {
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

constexpr ffi::DataType kNumbers = ffi::DataType::JAXCNN_TYPE;

}  // namespace
}  // namespace jaxcnn

// A library has the functions of one number type: JAXCNN_TYPE is the name that XLA's DataType has
// for it, JAXCNN_DTYPE NumPy's.
#define JAXCNN_JOIN(function, dtype) jaxcnn_##function##_##dtype
#define JAXCNN_NAME(function, dtype) JAXCNN_JOIN(function, dtype)
#define JAXCNN_HANDLER(function, arrays, more)                                 \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                               \
      JAXCNN_NAME(function, JAXCNN_DTYPE), jaxcnn::function<jaxcnn::kNumbers>, \
      jaxcnn::arrays<jaxcnn::kNumbers>().Ret<xla::ffi::Buffer<jaxcnn::kNumbers>>() more)
#define JAXCNN_WINDOW .Attr<jaxcnn::Window>("window")
#define JAXCNN_SECOND .Ret<xla::ffi::Buffer<jaxcnn::kNumbers>>()
JAXCNN_HANDLER(outputs, more_arrays, JAXCNN_WINDOW);
JAXCNN_HANDLER(images, arrays, JAXCNN_WINDOW);
JAXCNN_HANDLER(kernel, arrays, JAXCNN_WINDOW);
JAXCNN_HANDLER(unpool, places, JAXCNN_WINDOW);
JAXCNN_HANDLER(moments, one_array, JAXCNN_SECOND);
JAXCNN_HANDLER(products, more_arrays, JAXCNN_SECOND);
XLA_FFI_DEFINE_HANDLER_SYMBOL(JAXCNN_NAME(hold, JAXCNN_DTYPE), jaxcnn::hold,
                              xla::ffi::Ffi::Bind().RemainingArgs().RemainingRets());
