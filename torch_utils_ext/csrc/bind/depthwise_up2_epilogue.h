// depthwise_up2_epilogue: its kernel, shape and gradient. The output tells the slope of the epilogue, as in one without demodulation.

#pragma once

#include "depthwise_up2.h"
#include "epilogue.h"

namespace {

#define TUX_UP2_EPILOGUE const Tensor& x, const Tensor& k, const optional<Tensor>& noise, const optional<Tensor>& bias, \
    int64_t act, double alpha, double gain, double clamp

Tensor up2_epilogue_meta(TUX_UP2_EPILOGUE) {
    Tensor y = up2_meta(x, k);
    check_sides(y, std::nullopt, noise, bias);
    return y;
}

Tensor up2_epilogue_kernel(TUX_UP2_EPILOGUE) {
    if (!library_of(x).depthwise_up2_epilogue)
        return epilogue_kernel(up2_kernel(x, k), std::nullopt, noise, bias, act, alpha, gain, clamp);
    Tensor y = up2_epilogue_meta(x, k, noise, bias, act, alpha, gain, clamp), x_ = x.contiguous(), k_ = k.contiguous();
    auto n = dense(noise), b = dense(bias);
    auto args = arguments(y, std::nullopt, n, b, {act, alpha, gain, clamp});
    auto [N, C, H, W] = sizes_of(x_);
    TUX_CALL(x_, depthwise_up2_epilogue, x_.const_data_ptr(), k_.const_data_ptr(), k_.size(0) == N, &args, y.data_ptr(), N, C, H, W);
    return y;
}

struct Up2Epilogue : Function<Up2Epilogue> {
    static Variable forward(AutogradContext* ctx, TUX_UP2_EPILOGUE) {
        at::AutoDispatchBelowADInplaceOrView guard;
        TUX_OP("depthwise_up2_epilogue", Tensor(TUX_UP2_EPILOGUE));
        Tensor y = op.call(x, k, noise, bias, act, alpha, gain, clamp);
        ctx->save_for_backward({x, k, y, bare(noise), bare(bias)});
        save_scalars(ctx, {act, alpha, gain, clamp});
        return y;
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto t = ctx->get_saved_variables();
        auto wants = [&](int i) { return t[i].defined() && t[i].requires_grad(); };
        auto [g, gd, gn, gb] = epilogue_backward(grads[0], t[2], true, std::nullopt, some(t[3]), some(t[4]), saved_scalars(ctx),
                                                 false, wants(3), wants(4));
        auto [gx, gk] = up2_gradients(t[0], t[1], g, ctx->needs_input_grad(0), ctx->needs_input_grad(1));
        return {gx, gk, wants(3) ? shared(gn, t[3]) : Tensor(), wants(4) ? gb.sum(0) : Tensor(),
                Variable(), Variable(), Variable(), Variable()};
    }
};

}  // namespace
