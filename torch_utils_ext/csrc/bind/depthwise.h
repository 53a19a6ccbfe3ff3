// depthwise: kernels, shapes and gradients of each of its ops.

#pragma once

#include "tensors.h"

namespace {

Tensor depthwise_meta(const Tensor& x, const Tensor& k, bool) {
    check_filters(x, k, 1);
    return fresh(x, x.sym_sizes(), x.scalar_type());
}

Tensor depthwise_kernel(const Tensor& x_, const Tensor& k_, bool flip) {
    Tensor y = depthwise_meta(x_, k_, flip), x = x_.contiguous(), k = k_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    TUX_CALL(x, depthwise, x.const_data_ptr(), k.const_data_ptr(), k.size(0) == N, flip, y.data_ptr(), N, C, H, W);
    return y;
}

Tensor depthwise(const Tensor& x, const Tensor& k, bool flip) {
    TUX_OP("depthwise", Tensor(const Tensor&, const Tensor&, bool));
    return op.call(x, k, flip);
}

Tensor weight_grad_meta(const Tensor& x, const Tensor& g) {
    check_pair(x, g, 1);
    return fresh(x, {x.sym_size(0), x.sym_size(1), 3, 3}, sums(x));
}

Tensor weight_grad_kernel(const Tensor& x_, const Tensor& g_) {
    Tensor gk = weight_grad_meta(x_, g_), x = x_.contiguous(), g = g_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    Tensor work = at::empty({library_of(x).depthwise_weight_grad_workspace(code_of(x), N, C, H, W)}, x.options().dtype(at::kByte));
    TUX_CALL(x, depthwise_weight_grad, x.const_data_ptr(), g.const_data_ptr(), gk.data_ptr(), work.data_ptr(), N, C, H, W);
    return gk;
}

Tensor weight_grad(const Tensor& x, const Tensor& g) {
    TUX_OP("depthwise_weight_grad", Tensor(const Tensor&, const Tensor&));
    return op.call(x, g);
}

std::tuple<Tensor, Tensor> backward_meta(const Tensor& x, const Tensor& k, const Tensor& g) {
    check_filters(x, k, 1);
    check_pair(x, g, 1);
    return {fresh(x, x.sym_sizes(), x.scalar_type()), fresh(x, {x.sym_size(0), x.sym_size(1), 3, 3}, sums(x))};
}

std::tuple<Tensor, Tensor> backward_kernel(const Tensor& x_, const Tensor& k_, const Tensor& g_) {
    if (!library_of(x_).depthwise_backward) return {depthwise_kernel(g_, k_, true), weight_grad_kernel(x_, g_)};
    auto [gx, gk] = backward_meta(x_, k_, g_);
    Tensor x = x_.contiguous(), k = k_.contiguous(), g = g_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    Tensor work = at::empty({library_of(x).depthwise_weight_grad_workspace(code_of(x), N, C, H, W)}, x.options().dtype(at::kByte));
    TUX_CALL(x, depthwise_backward, x.const_data_ptr(), k.const_data_ptr(), k.size(0) == N, g.const_data_ptr(), gx.data_ptr(),
             gk.data_ptr(), work.data_ptr(), N, C, H, W);
    return {gx, gk};
}

// y = D_f(x, k):  gx = D_!f(g, k),  gk = W(x, g), flipped if f is set.
struct Depthwise : Function<Depthwise> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const Tensor& k, bool flip) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, k});
        ctx->saved_data["flip"] = flip;
        return depthwise(x, k, flip);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &k = saved[1], &g = grads[0];
        bool flip = ctx->saved_data["flip"].toBool(), want_x = ctx->needs_input_grad(0), want_k = ctx->needs_input_grad(1);
        Tensor gx, gk;
        if (want_x && want_k && !flip) {
            TUX_OP("depthwise_backward", std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&));
            std::tie(gx, gk) = op.call(x, k, g);
            gk = shared(gk, k);
        } else {
            if (want_x) gx = depthwise(g, k, !flip);
            if (want_k) gk = shared(weight_grad(x, g), k);
            if (want_k && flip) gk = gk.flip({2, 3});
        }
        return {gx, gk, Variable()};
    }
};

struct WeightGrad : Function<WeightGrad> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const Tensor& g) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, g});
        return weight_grad(x, g);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        return {ctx->needs_input_grad(0) ? depthwise(saved[1], grads[0], true) : Tensor(),
                ctx->needs_input_grad(1) ? depthwise(saved[0], grads[0], false) : Tensor()};
    }
};

// (gx, gk) for the cotangents (vx, vk):  x: D_1(g, vk),  k: W(vx, g),  g: D_0(vx, k) + D_0(x, vk).
struct DepthwiseBackward : Function<DepthwiseBackward> {
    static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& k, const Tensor& g) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, k, g});
        ctx->set_materialize_grads(false);
        TUX_OP("depthwise_backward", std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&));
        auto [gx, gk] = op.call(x, k, g);
        return {gx, gk};
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &k = saved[1], &g = saved[2], &vx = grads[0], &vk = grads[1];
        Tensor to_x, to_k, to_g;
        if (ctx->needs_input_grad(0) && vk.defined()) to_x = depthwise(g, vk, true);
        if (ctx->needs_input_grad(1) && vx.defined()) to_k = shared(weight_grad(vx, g), k);
        if (ctx->needs_input_grad(2) && vx.defined()) to_g = depthwise(vx, k, false);
        if (ctx->needs_input_grad(2) && vk.defined()) {
            Tensor part = depthwise(x, vk, false);
            to_g = to_g.defined() ? to_g + part : part;
        }
        return {to_x, to_k, to_g};
    }
};

}  // namespace
