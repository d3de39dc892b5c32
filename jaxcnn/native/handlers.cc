// What the library computes, as functions for XLA's CPU client: here direct convolutions of NHWC
// images, their gradients and a max pool's, in training_handlers.h what else a train step needs.
//
// Three bilinear functions of images (N, H, W, C), kernels (kh, kw, C / groups, F) and outputs
// (N, OH, OW, F): `outputs` of images and kernel, `images` (their gradient) of outputs and kernel,
// `kernel` (its gradient) of images and outputs. To the outputs a bias (F) is added where there is
// one. The attribute `window` has the strides, dilations and zeros before the images, (h, w) each,
// and the groups.
#include "bindings.h"
#include "convolution.h"
#include "kernel_gradient.h"
#include "training_handlers.h"
#include "unpool.h"
#include "xla/ffi/api/ffi.h"

namespace jaxcnn {
namespace {

using Window = ffi::Span<const int64_t>;

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
                   ffi::RemainingArgs bias, ffi::ResultBuffer<kType> outputs, Window window) {
  const auto x = input(images), k = input(kernel);
  const auto y = output(outputs);
  using T = ffi::NativeType<kType>;
  const T* b = nullptr;
  if (bias.size() > 0) {
    auto given = bias.get<ffi::Buffer<kType>>(0);
    if (given.has_error()) return given.error();
    b = given->typed_data();
  }
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
JAXCNN_HANDLER(outputs, arrays_and_others, JAXCNN_WINDOW);
JAXCNN_HANDLER(images, arrays, JAXCNN_WINDOW);
JAXCNN_HANDLER(kernel, arrays, JAXCNN_WINDOW);
JAXCNN_HANDLER(unpool, places, JAXCNN_WINDOW);
JAXCNN_HANDLER(moments, one_array, JAXCNN_SECOND);
JAXCNN_HANDLER(products, more_arrays, JAXCNN_SECOND);
JAXCNN_HANDLER(normal, arrays_and_others,
               JAXCNN_SECOND JAXCNN_SECOND JAXCNN_SECOND.Attr<double>("eps"));
JAXCNN_HANDLER(norm_gradient, norm_arrays, JAXCNN_SECOND JAXCNN_SECOND JAXCNN_SECOND);
JAXCNN_HANDLER(running, five_arrays, JAXCNN_SECOND.Attr<double>("weight"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(JAXCNN_NAME(join, JAXCNN_DTYPE), jaxcnn::join<jaxcnn::kNumbers>,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Ret<xla::ffi::Buffer<jaxcnn::kNumbers>>());
#define JAXCNN_STEP(function, attributes)                                      \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                               \
      JAXCNN_NAME(function, JAXCNN_DTYPE), jaxcnn::function<jaxcnn::kNumbers>, \
      jaxcnn::many_arrays<jaxcnn::kNumbers>().Attr<double>("momentum") attributes)
JAXCNN_STEP(sgd, .Attr<double>("weight_decay").Attr<bool>("nesterov").Attr<bool>("maximize"));
JAXCNN_STEP(adam, .Attr<double>("beta2")
                      .Attr<double>("eps")
                      .Attr<double>("weight_decay")
                      .Attr<bool>("decoupled")
                      .Attr<bool>("maximize"));
JAXCNN_STEP(adagrad, .Attr<double>("lr_decay")
                         .Attr<double>("eps")
                         .Attr<double>("weight_decay")
                         .Attr<bool>("maximize"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(JAXCNN_NAME(hold, JAXCNN_DTYPE), jaxcnn::hold,
                              xla::ffi::Ffi::Bind().RemainingArgs().RemainingRets());
