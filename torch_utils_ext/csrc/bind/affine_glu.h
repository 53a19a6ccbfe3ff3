// affine_glu: kernels, shapes and gradients.

#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/sigmoid.h>

#include "tensors.h"

namespace {

#define TUX_AFFINE const Tensor& x, const optional<Tensor>& scale, const optional<Tensor>& shift, const optional<Tensor>& noise

Tensor glu_meta(TUX_AFFINE) {
    check_sides(x, std::nullopt, noise, scale);
    check_sides(x, std::nullopt, std::nullopt, shift);
    TORCH_CHECK(x.sym_size(1) % 2 == 0, "affine_glu halves the channels of x, got ", x.sym_sizes());
    return fresh(x, {x.sym_size(0), x.sym_size(1) / 2, x.sym_size(2), x.sym_size(3)}, x.scalar_type());
}

Tensor glu_kernel(const Tensor& x_, const optional<Tensor>& scale, const optional<Tensor>& shift, const optional<Tensor>& noise) {
    Tensor y = glu_meta(x_, scale, shift, noise), x = x_.contiguous();
    auto s = dense(scale), t = dense(shift), n = dense(noise);
    auto [N, C, H, W] = sizes_of(y);
    TUX_CALL(x, affine_glu, x.const_data_ptr(), pointer(s), pointer(t), pointer(n), n && n->size(0) == N, y.data_ptr(), N, C, H, W);
    return y;
}

Four glu_backward_meta(const Tensor& g, TUX_AFFINE) {
    glu_meta(x, scale, shift, noise);
    c10::SymInt N = x.sym_size(0), C2 = x.sym_size(1), none = 0;
    return {fresh(x, x.sym_sizes(), x.scalar_type()), fresh(x, {scale ? N : none, C2}, sums(x)),
            fresh(x, {shift ? N : none, C2}, sums(x)), fresh(x, {noise ? N : none, 1, x.sym_size(2), x.sym_size(3)}, sums(x))};
}

Four glu_backward_kernel(const Tensor& g_, const Tensor& x_, const optional<Tensor>& scale, const optional<Tensor>& shift,
                         const optional<Tensor>& noise) {
    auto [gx, gs, gt, gn] = glu_backward_meta(g_, x_, scale, shift, noise);
    Tensor g = g_.contiguous(), x = x_.contiguous();
    auto s = dense(scale), t = dense(shift), n = dense(noise);
    auto [N, C, H, W] = sizes_of(g);
    Tensor work = at::empty({library_of(x).affine_glu_backward_workspace(code_of(x), N, C, H, W)}, x.options().dtype(at::kByte));
    TUX_CALL(x, affine_glu_backward, g.const_data_ptr(), x.const_data_ptr(), pointer(s), pointer(t), pointer(n),
             n && n->size(0) == N, gx.data_ptr(), wanted(gs, !!s), wanted(gt, !!t), wanted(gn, !!n), work.data_ptr(), N, C, H, W);
    return {gx, gs, gt, gn};
}

Four glu_backward(const Tensor& g, TUX_AFFINE) {
    TUX_OP("affine_glu_backward", Four(const Tensor&, const Tensor&, const optional<Tensor>&, const optional<Tensor>&,
                                       const optional<Tensor>&));
    return op.call(g, x, scale, shift, noise);
}

struct AffineGlu : Function<AffineGlu> {
    static Variable forward(AutogradContext* ctx, TUX_AFFINE) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, bare(scale), bare(shift), bare(noise)});
        TUX_OP("affine_glu", Tensor(const Tensor&, const optional<Tensor>&, const optional<Tensor>&, const optional<Tensor>&));
        return op.call(x, scale, shift, noise);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto t = ctx->get_saved_variables();
        auto [gx, gs, gt, gn] = glu_backward(grads[0], t[0], some(t[1]), some(t[2]), some(t[3]));
        auto wants = [&](int i) { return t[i].defined() && t[i].requires_grad(); };
        return {gx, wants(1) ? gs.sum(0) : Tensor(), wants(2) ? gt.sum(0) : Tensor(), wants(3) ? shared(gn, t[3]) : Tensor()};
    }
};

// With v = [a, b], s = sigmoid(b), w = [g s, g a s'] the outputs are w scale, sum w x, sum w, sum_c w. For their cotangents let
// V = vx scale + vs x + vt + vn = [Va, Vb]; then sum w V = sum g (s Va + a s' Vb), which is differentiated for all its inputs.
// This is in plain torch, because only second derivatives need it.
struct AffineGluBackward : Function<AffineGluBackward> {
    static variable_list forward(AutogradContext* ctx, const Tensor& g, TUX_AFFINE) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({g, x, bare(scale), bare(shift), bare(noise)});
        ctx->set_materialize_grads(false);
        auto [gx, gs, gt, gn] = glu_backward(g, x, scale, shift, noise);
        return {gx, gs, gt, gn};
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto t = ctx->get_saved_variables();
        auto type = sums(t[1]);
        Tensor g = t[0].to(type), x = t[1].to(type), scale, v = x, V;
        auto plane = [](const Tensor& c) { return c.unsqueeze(-1).unsqueeze(-1); };
        auto add = [&](const Tensor& part) { V = V.defined() ? V + part : part; };
        if (t[2].defined()) scale = plane(t[2]), v = v * scale;
        if (t[3].defined()) v = v + plane(t[3]);
        if (t[4].defined()) v = v + t[4];
        Tensor vx = grads[0].defined() ? grads[0].to(type) : Tensor();
        Tensor vs = t[2].defined() && grads[1].defined() ? plane(grads[1]) : Tensor();
        if (vx.defined()) add(scale.defined() ? vx * scale : vx);
        if (vs.defined()) add(x * vs);
        if (t[3].defined() && grads[2].defined()) add(plane(grads[2]));
        if (t[4].defined() && grads[3].defined()) add(grads[3]);
        variable_list out(5);
        if (!V.defined()) return out;
        V = V.expand_symint(x.sym_sizes());
        c10::SymInt C = g.sym_size(1);
        Tensor a = v.narrow_symint(1, 0, C), s = at::sigmoid(v.narrow_symint(1, C, C)), s1 = s * (1 - s);
        Tensor Va = V.narrow_symint(1, 0, C), Vb = V.narrow_symint(1, C, C);
        if (ctx->needs_input_grad(0)) out[0] = (s * Va + a * s1 * Vb).to(t[0].scalar_type());
        Tensor to_v = at::cat({g * s1 * Vb, g * (s1 * Va + a * s1 * (1 - 2 * s) * Vb)}, 1), to_x = scale.defined() ? to_v * scale : to_v;
        Tensor w = vs.defined() || scale.defined() ? at::cat({g * s, g * a * s1}, 1) : Tensor();
        if (vs.defined()) to_x = to_x + w * vs;
        out[1] = to_x.to(t[1].scalar_type());
        if (scale.defined()) out[2] = (vx.defined() ? to_v * x + w * vx : to_v * x).sum({0, 2, 3});
        if (t[3].defined()) out[3] = to_v.sum({0, 2, 3});
        if (t[4].defined()) out[4] = shared(to_v.sum(1, true), t[4]);
        return out;
    }
};

}  // namespace
