// depthwise_up2: kernels, shapes and gradients of each of its ops.

#pragma once

#include "tensors.h"

namespace {

Tensor up2_meta(const Tensor& x, const Tensor& k) {
    check_filters(x, k, 4);
    return fresh(x, {x.sym_size(0), x.sym_size(1), 2 * x.sym_size(2), 2 * x.sym_size(3)}, x.scalar_type());
}

Tensor up2_kernel(const Tensor& x_, const Tensor& k_) {
    Tensor y = up2_meta(x_, k_), x = x_.contiguous(), k = k_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    TUX_CALL(x, depthwise_up2, x.const_data_ptr(), k.const_data_ptr(), k.size(0) == N, y.data_ptr(), N, C, H, W);
    return y;
}

Tensor up2(const Tensor& x, const Tensor& k) {
    TUX_OP("depthwise_up2", Tensor(const Tensor&, const Tensor&));
    return op.call(x, k);
}

Tensor up2_transpose_meta(const Tensor& g, const Tensor& k) {
    check_filters(g, k, 4);
    TORCH_CHECK(g.sym_size(2) % 2 == 0 && g.sym_size(3) % 2 == 0, "expected an even height and width, got ", g.sym_sizes());
    return fresh(g, {g.sym_size(0), g.sym_size(1), g.sym_size(2) / 2, g.sym_size(3) / 2}, g.scalar_type());
}

Tensor up2_transpose_kernel(const Tensor& g_, const Tensor& k_) {
    Tensor x = up2_transpose_meta(g_, k_), g = g_.contiguous(), k = k_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    TUX_CALL(g, depthwise_up2_transpose, g.const_data_ptr(), k.const_data_ptr(), k.size(0) == N, x.data_ptr(), N, C, H, W);
    return x;
}

Tensor up2_transpose(const Tensor& g, const Tensor& k) {
    TUX_OP("depthwise_up2_transpose", Tensor(const Tensor&, const Tensor&));
    return op.call(g, k);
}

Tensor up2_weight_grad_meta(const Tensor& x, const Tensor& g) {
    check_pair(x, g, 2);
    return fresh(x, {x.sym_size(0), x.sym_size(1), 4, 3, 3}, sums(x));
}

Tensor up2_weight_grad_kernel(const Tensor& x_, const Tensor& g_) {
    Tensor gk = up2_weight_grad_meta(x_, g_), x = x_.contiguous(), g = g_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    Tensor work = at::empty({library_of(x).depthwise_up2_weight_grad_workspace(code_of(x), N, C, H, W)}, x.options().dtype(at::kByte));
    TUX_CALL(x, depthwise_up2_weight_grad, x.const_data_ptr(), g.const_data_ptr(), gk.data_ptr(), work.data_ptr(), N, C, H, W);
    return gk;
}

Tensor up2_weight_grad(const Tensor& x, const Tensor& g) {
    TUX_OP("depthwise_up2_weight_grad", Tensor(const Tensor&, const Tensor&));
    return op.call(x, g);
}

std::tuple<Tensor, Tensor> up2_backward_meta(const Tensor& x, const Tensor& k, const Tensor& g) {
    check_filters(x, k, 4);
    check_pair(x, g, 2);
    return {fresh(x, x.sym_sizes(), x.scalar_type()), fresh(x, {x.sym_size(0), x.sym_size(1), 4, 3, 3}, sums(x))};
}

std::tuple<Tensor, Tensor> up2_backward_kernel(const Tensor& x_, const Tensor& k_, const Tensor& g_) {
    if (!library_of(x_).depthwise_up2_backward) return {up2_transpose_kernel(g_, k_), up2_weight_grad_kernel(x_, g_)};
    auto [gx, gk] = up2_backward_meta(x_, k_, g_);
    Tensor x = x_.contiguous(), k = k_.contiguous(), g = g_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    Tensor work = at::empty({library_of(x).depthwise_up2_weight_grad_workspace(code_of(x), N, C, H, W)}, x.options().dtype(at::kByte));
    TUX_CALL(x, depthwise_up2_backward, x.const_data_ptr(), k.const_data_ptr(), k.size(0) == N, g.const_data_ptr(),
             gx.data_ptr(), gk.data_ptr(), work.data_ptr(), N, C, H, W);
    return {gx, gk};
}

// The gradients of sum(g * up2(x, k)) that are wanted.
std::tuple<Tensor, Tensor> up2_gradients(const Tensor& x, const Tensor& k, const Tensor& g, bool want_x, bool want_k) {
    Tensor gx, gk;
    if (want_x && want_k) {
        TUX_OP("depthwise_up2_backward", std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&));
        std::tie(gx, gk) = op.call(x, k, g);
        gk = shared(gk, k);
    } else {
        if (want_x) gx = up2_transpose(g, k);
        if (want_k) gk = shared(up2_weight_grad(x, g), k);
    }
    return {gx, gk};
}

struct Up2 : Function<Up2> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const Tensor& k) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, k});
        return up2(x, k);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        auto [gx, gk] = up2_gradients(saved[0], saved[1], grads[0], ctx->needs_input_grad(0), ctx->needs_input_grad(1));
        return {gx, gk};
    }
};

struct Up2Transpose : Function<Up2Transpose> {
    static Variable forward(AutogradContext* ctx, const Tensor& g, const Tensor& k) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({g, k});
        return up2_transpose(g, k);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        return {ctx->needs_input_grad(0) ? up2(grads[0], saved[1]) : Tensor(),
                ctx->needs_input_grad(1) ? shared(up2_weight_grad(grads[0], saved[0]), saved[1]) : Tensor()};
    }
};

struct Up2WeightGrad : Function<Up2WeightGrad> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const Tensor& g) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, g});
        return up2_weight_grad(x, g);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        return {ctx->needs_input_grad(0) ? up2_transpose(saved[1], grads[0]) : Tensor(),
                ctx->needs_input_grad(1) ? up2(saved[0], grads[0]) : Tensor()};
    }
};

struct Up2Backward : Function<Up2Backward> {
    static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& k, const Tensor& g) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, k, g});
        ctx->set_materialize_grads(false);
        TUX_OP("depthwise_up2_backward", std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&));
        auto [gx, gk] = op.call(x, k, g);
        return {gx, gk};
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &k = saved[1], &g = saved[2], &vx = grads[0], &vk = grads[1];
        Tensor to_x, to_k, to_g;
        if (ctx->needs_input_grad(0) && vk.defined()) to_x = up2_transpose(g, vk);
        if (ctx->needs_input_grad(1) && vx.defined()) to_k = shared(up2_weight_grad(vx, g), k);
        if (ctx->needs_input_grad(2) && vx.defined()) to_g = up2(vx, k);
        if (ctx->needs_input_grad(2) && vk.defined()) {
            Tensor part = up2(x, vk);
            to_g = to_g.defined() ? to_g + part : part;
        }
        return {to_x, to_k, to_g};
    }
};

}  // namespace
