// The ops in torch: schemas, and the function of each op for each dispatch key. Kernels, shapes and gradients are in bind/, a
// file for each op. Gradients are written in terms of the ops, so that they can be differentiated again. There is one translation
// unit, without CUDA headers, because torch's headers take most of the compile time, and torch/extension.h would treble it.

#include "bind/affine_glu.h"
#include "bind/conv3x3.h"
#include "bind/depthwise.h"
#include "bind/depthwise_up2.h"
#include "bind/depthwise_up2_epilogue.h"
#include "bind/epilogue.h"
#include "bind/moments.h"

namespace {

template <class F, class... Args> Four four(Args&&... args) {
    auto out = F::apply(std::forward<Args>(args)...);
    return {out[0], out[1], out[2], out[3]};
}

template <class F> std::tuple<Tensor, Tensor> two(const Tensor& x, const Tensor& k, const Tensor& g) {
    auto out = F::apply(x, k, g);
    return {out[0], out[1]};
}

template <class F> Tensor pair(const Tensor& a, const Tensor& b) { return F::apply(a, b); }
Tensor depthwise_autograd(const Tensor& x, const Tensor& k, bool flip) { return Depthwise::apply(x, k, flip); }
template <class F> Tensor transposable(const Tensor& x, const Tensor& w, bool transposed) { return F::apply(x, w, transposed); }
template <class F> Tensor resampled(const Tensor& a, const Tensor& b, Taps taps) { return F::apply(a, b, taps.vec()); }
Tensor glu_autograd(TUX_AFFINE) { return AffineGlu::apply(x, scale, shift, noise); }
Four glu_backward_autograd(const Tensor& g, TUX_AFFINE) { return four<AffineGluBackward>(g, x, scale, shift, noise); }

Tensor epilogue_autograd(const Tensor& x, const optional<Tensor>& demod, const optional<Tensor>& noise, const optional<Tensor>& bias,
                         int64_t act, double alpha, double gain, double clamp) {
    return Epilogue::apply(x, demod, noise, bias, act, alpha, gain, clamp);
}

Tensor up2_epilogue_autograd(TUX_UP2_EPILOGUE) { return Up2Epilogue::apply(x, k, noise, bias, act, alpha, gain, clamp); }

Tensor slope_autograd(const Tensor& g, const Tensor& saved, bool from_output, const optional<Tensor>& demod,
                      const optional<Tensor>& noise, const optional<Tensor>& bias, int64_t act, double alpha, double gain, double clamp) {
    return EpilogueSlope::apply(g, saved, from_output, demod, noise, bias, act, alpha, gain, clamp);
}

Four epilogue_backward_autograd(const Tensor& g, const Tensor& saved, bool from_output, const optional<Tensor>& demod,
                                const optional<Tensor>& noise, const optional<Tensor>& bias, int64_t act, double alpha,
                                double gain, double clamp, bool want_d, bool want_n, bool want_b) {
    return four<EpilogueBackward>(g, saved, from_output, demod, noise, bias, act, alpha, gain, clamp, want_d, want_n, want_b);
}

}  // namespace

//---------------------------------------------------------------------------

#define TUX_SCALARS "Tensor? demod, Tensor? noise, Tensor? bias, int act, float alpha, float gain, float clamp"

TORCH_LIBRARY(torch_utils_ext, m) {
    m.def("depthwise(Tensor x, Tensor k, bool flip=False) -> Tensor");
    m.def("depthwise_weight_grad(Tensor x, Tensor g) -> Tensor");
    m.def("depthwise_backward(Tensor x, Tensor k, Tensor g) -> (Tensor, Tensor)");
    m.def("depthwise_up2(Tensor x, Tensor k) -> Tensor");
    m.def("depthwise_up2_epilogue(Tensor x, Tensor k, Tensor? noise, Tensor? bias, int act, float alpha, float gain, float clamp) "
          "-> Tensor");
    m.def("depthwise_up2_transpose(Tensor g, Tensor k) -> Tensor");
    m.def("depthwise_up2_weight_grad(Tensor x, Tensor g) -> Tensor");
    m.def("depthwise_up2_backward(Tensor x, Tensor k, Tensor g) -> (Tensor, Tensor)");
    m.def("epilogue(Tensor x, " TUX_SCALARS ") -> Tensor");
    m.def("epilogue_slope(Tensor g, Tensor saved, bool from_output, " TUX_SCALARS ") -> Tensor");
    m.def("epilogue_backward(Tensor g, Tensor saved, bool from_output, " TUX_SCALARS ", bool want_demod, bool want_noise, "
          "bool want_bias) -> (Tensor, Tensor, Tensor, Tensor)");
    m.def("affine_glu(Tensor x, Tensor? scale, Tensor? shift, Tensor? noise) -> Tensor");
    m.def("affine_glu_backward(Tensor g, Tensor x, Tensor? scale, Tensor? shift, Tensor? noise) -> (Tensor, Tensor, Tensor, Tensor)");
    m.def("conv3x3(Tensor x, Tensor w, bool transposed=False) -> Tensor");
    m.def("conv3x3_weight_grad(Tensor x, Tensor g) -> Tensor");
    m.def("conv3x3_down2(Tensor x, Tensor w, float[] taps) -> Tensor");
    m.def("conv3x3_up2(Tensor y, Tensor w, float[] taps) -> Tensor");
    m.def("conv3x3_down2_weight_grad(Tensor x, Tensor g, float[] taps) -> Tensor");
    m.def("conv4x4_down2(Tensor x, Tensor w, bool transposed=False) -> Tensor");
    m.def("conv4x4_down2_weight_grad(Tensor x, Tensor g) -> Tensor");
    m.def("moments(Tensor x) -> (Tensor, Tensor)");
    m.def("norm_gradient(Tensor v, Tensor x, Tensor factor, Tensor constant) -> Tensor");
    m.def("_open(str kind, str path) -> ()", open_library);
}

#define TUX_KERNELS(suffix) \
    m.impl("depthwise", depthwise_##suffix); \
    m.impl("depthwise_weight_grad", weight_grad_##suffix); \
    m.impl("depthwise_backward", backward_##suffix); \
    m.impl("depthwise_up2", up2_##suffix); \
    m.impl("depthwise_up2_epilogue", up2_epilogue_##suffix); \
    m.impl("depthwise_up2_transpose", up2_transpose_##suffix); \
    m.impl("depthwise_up2_weight_grad", up2_weight_grad_##suffix); \
    m.impl("depthwise_up2_backward", up2_backward_##suffix); \
    m.impl("epilogue", epilogue_##suffix); \
    m.impl("epilogue_slope", slope_##suffix); \
    m.impl("epilogue_backward", epilogue_backward_##suffix); \
    m.impl("affine_glu", glu_##suffix); \
    m.impl("affine_glu_backward", glu_backward_##suffix); \
    m.impl("conv3x3", conv3x3_##suffix); \
    m.impl("conv3x3_weight_grad", conv3x3_weight_grad_##suffix); \
    m.impl("conv3x3_down2", conv3x3_down2_##suffix); \
    m.impl("conv3x3_up2", conv3x3_up2_##suffix); \
    m.impl("conv3x3_down2_weight_grad", conv3x3_down2_weight_grad_##suffix); \
    m.impl("conv4x4_down2", conv4x4_down2_##suffix); \
    m.impl("conv4x4_down2_weight_grad", conv4x4_down2_weight_grad_##suffix); \
    m.impl("moments", moments_##suffix); \
    m.impl("norm_gradient", norm_gradient_##suffix);

TORCH_LIBRARY_IMPL(torch_utils_ext, CPU, m) { TUX_KERNELS(kernel) }
TORCH_LIBRARY_IMPL(torch_utils_ext, CUDA, m) { TUX_KERNELS(kernel) }
TORCH_LIBRARY_IMPL(torch_utils_ext, Meta, m) { TUX_KERNELS(meta) }

TORCH_LIBRARY_IMPL(torch_utils_ext, Autograd, m) {
    m.impl("depthwise", depthwise_autograd);
    m.impl("depthwise_weight_grad", pair<WeightGrad>);
    m.impl("depthwise_backward", two<DepthwiseBackward>);
    m.impl("depthwise_up2", pair<Up2>);
    m.impl("depthwise_up2_epilogue", up2_epilogue_autograd);
    m.impl("depthwise_up2_transpose", pair<Up2Transpose>);
    m.impl("depthwise_up2_weight_grad", pair<Up2WeightGrad>);
    m.impl("depthwise_up2_backward", two<Up2Backward>);
    m.impl("epilogue", epilogue_autograd);
    m.impl("epilogue_slope", slope_autograd);
    m.impl("epilogue_backward", epilogue_backward_autograd);
    m.impl("affine_glu", glu_autograd);
    m.impl("affine_glu_backward", glu_backward_autograd);
    m.impl("conv3x3", transposable<Conv3x3>);
    m.impl("conv3x3_weight_grad", pair<WeightGradOf<Conv3x3>>);
    m.impl("conv3x3_down2", resampled<Conv3x3Down2>);
    m.impl("conv3x3_up2", resampled<Conv3x3Up2>);
    m.impl("conv3x3_down2_weight_grad", resampled<Conv3x3Down2WeightGrad>);
    m.impl("conv4x4_down2", transposable<Conv4x4Down2>);
    m.impl("conv4x4_down2_weight_grad", pair<WeightGradOf<Conv4x4Down2>>);
}
