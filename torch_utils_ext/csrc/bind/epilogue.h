// epilogue: kernels, shapes and gradients. With demodulation the input is saved; without it the output, which the next layer
// saves in any case.

#pragma once

#include "tensors.h"

namespace {

struct Scalars {
    int64_t act;
    double alpha, gain, clamp;
};

tux_epilogue_args arguments(const Tensor& x, const optional<Tensor>& demod, const optional<Tensor>& noise,
                            const optional<Tensor>& bias, Scalars s) {
    return {pointer(demod), pointer(noise), pointer(bias), noise && noise->size(0) == x.size(0), (int)s.act, s.alpha, s.gain, s.clamp};
}

#define TUX_SIDES const optional<Tensor>&, const optional<Tensor>&, const optional<Tensor>&, int64_t, double, double, double

Tensor epilogue_meta(const Tensor& x, const optional<Tensor>& demod, const optional<Tensor>& noise, const optional<Tensor>& bias,
                     int64_t, double, double, double) {
    check_sides(x, demod, noise, bias);
    return fresh(x, x.sym_sizes(), x.scalar_type());
}

Tensor epilogue_kernel(const Tensor& x_, const optional<Tensor>& demod, const optional<Tensor>& noise,
                       const optional<Tensor>& bias, int64_t act, double alpha, double gain, double clamp) {
    Tensor y = epilogue_meta(x_, demod, noise, bias, act, alpha, gain, clamp), x = x_.contiguous();
    auto d = dense(demod), n = dense(noise), b = dense(bias);
    auto args = arguments(x, d, n, b, {act, alpha, gain, clamp});
    auto [N, C, H, W] = sizes_of(x);
    TUX_CALL(x, epilogue, x.const_data_ptr(), &args, y.data_ptr(), N, C, H, W);
    return y;
}

Tensor slope_meta(const Tensor& g, const Tensor& saved, bool, TUX_SIDES) {
    check_pair(saved, g, 1);
    return fresh(g, g.sym_sizes(), g.scalar_type());
}

Tensor slope_kernel(const Tensor& g_, const Tensor& saved_, bool from_output, const optional<Tensor>& demod,
                    const optional<Tensor>& noise, const optional<Tensor>& bias, int64_t act, double alpha, double gain,
                    double clamp) {
    Tensor out = slope_meta(g_, saved_, from_output, demod, noise, bias, act, alpha, gain, clamp);
    Tensor g = g_.contiguous(), saved = saved_.contiguous();
    auto d = dense(demod), n = dense(noise), b = dense(bias);
    auto args = arguments(g, d, n, b, {act, alpha, gain, clamp});
    auto [N, C, H, W] = sizes_of(g);
    TUX_CALL(g, epilogue_slope, g.const_data_ptr(), saved.const_data_ptr(), from_output, &args, out.data_ptr(), N, C, H, W);
    return out;
}

Tensor slope(const Tensor& g, const Tensor& saved, bool from_output, const optional<Tensor>& demod, const optional<Tensor>& noise,
             const optional<Tensor>& bias, Scalars s) {
    TUX_OP("epilogue_slope", Tensor(const Tensor&, const Tensor&, bool, TUX_SIDES));
    return op.call(g, saved, from_output, demod, noise, bias, s.act, s.alpha, s.gain, s.clamp);
}

// Gradients for x, demod, noise and bias; the last three per sample, and empty if they are not wanted.
Four epilogue_backward_meta(const Tensor& g, const Tensor& saved, bool, TUX_SIDES, bool want_d, bool want_n, bool want_b) {
    check_pair(saved, g, 1);
    c10::SymInt N = g.sym_size(0), C = g.sym_size(1), none = 0;
    return {fresh(g, g.sym_sizes(), g.scalar_type()), fresh(g, {want_d ? N : none, C}, sums(g)),
            fresh(g, {want_n ? N : none, 1, g.sym_size(2), g.sym_size(3)}, sums(g)), fresh(g, {want_b ? N : none, C}, sums(g))};
}

Four epilogue_backward_kernel(const Tensor& g_, const Tensor& saved_, bool from_output, const optional<Tensor>& demod,
                              const optional<Tensor>& noise, const optional<Tensor>& bias, int64_t act, double alpha,
                              double gain, double clamp, bool want_d, bool want_n, bool want_b) {
    auto [gx, gd, gn, gb] = epilogue_backward_meta(g_, saved_, from_output, demod, noise, bias, act, alpha, gain, clamp,
                                                   want_d, want_n, want_b);
    Tensor g = g_.contiguous(), saved = saved_.contiguous();
    auto d = dense(demod), n = dense(noise), b = dense(bias);
    auto args = arguments(g, d, n, b, {act, alpha, gain, clamp});
    auto [N, C, H, W] = sizes_of(g);
    Tensor work = at::empty({library_of(g).epilogue_backward_workspace(code_of(g), N, C, H, W)}, g.options().dtype(at::kByte));
    TUX_CALL(g, epilogue_backward, g.const_data_ptr(), saved.const_data_ptr(), from_output, &args, gx.data_ptr(),
             wanted(gd, want_d), wanted(gn, want_n), wanted(gb, want_b), work.data_ptr(), N, C, H, W);
    return {gx, gd, gn, gb};
}

Four epilogue_backward(const Tensor& g, const Tensor& saved, bool from_output, const optional<Tensor>& demod,
                       const optional<Tensor>& noise, const optional<Tensor>& bias, Scalars s, bool want_d, bool want_n, bool want_b) {
    TUX_OP("epilogue_backward", Four(const Tensor&, const Tensor&, bool, TUX_SIDES, bool, bool, bool));
    return op.call(g, saved, from_output, demod, noise, bias, s.act, s.alpha, s.gain, s.clamp, want_d, want_n, want_b);
}

void save_scalars(AutogradContext* ctx, Scalars s) {
    ctx->saved_data["act"] = s.act;
    ctx->saved_data["alpha"] = s.alpha;
    ctx->saved_data["gain"] = s.gain;
    ctx->saved_data["clamp"] = s.clamp;
}

Scalars saved_scalars(AutogradContext* ctx) {
    return {ctx->saved_data["act"].toInt(), ctx->saved_data["alpha"].toDouble(), ctx->saved_data["gain"].toDouble(),
            ctx->saved_data["clamp"].toDouble()};
}

struct Epilogue : Function<Epilogue> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const optional<Tensor>& demod, const optional<Tensor>& noise,
                            const optional<Tensor>& bias, int64_t act, double alpha, double gain, double clamp) {
        at::AutoDispatchBelowADInplaceOrView guard;
        TUX_OP("epilogue", Tensor(const Tensor&, TUX_SIDES));
        Tensor y = op.call(x, demod, noise, bias, act, alpha, gain, clamp);
        bool from_output = !demod;
        ctx->save_for_backward({from_output ? y : x, bare(demod), bare(noise), bare(bias)});
        ctx->saved_data["from_output"] = from_output;
        save_scalars(ctx, {act, alpha, gain, clamp});
        return y;
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto t = ctx->get_saved_variables();
        auto wants = [&](int i) { return t[i].defined() && t[i].requires_grad(); };
        auto [gx, gd, gn, gb] = epilogue_backward(grads[0], t[0], ctx->saved_data["from_output"].toBool(), some(t[1]), some(t[2]),
                                                  some(t[3]), saved_scalars(ctx), wants(1), wants(2), wants(3));
        return {gx, wants(1) ? gd : Tensor(), wants(2) ? shared(gn, t[2]) : Tensor(), wants(3) ? gb.sum(0) : Tensor(),
                Variable(), Variable(), Variable(), Variable()};
    }
};

struct EpilogueSlope : Function<EpilogueSlope> {    // linear in g and equal to its transpose; the slope is piecewise constant
    static Variable forward(AutogradContext* ctx, const Tensor& g, const Tensor& saved, bool from_output,
                            const optional<Tensor>& demod, const optional<Tensor>& noise, const optional<Tensor>& bias,
                            int64_t act, double alpha, double gain, double clamp) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({saved, bare(demod), bare(noise), bare(bias)});
        ctx->saved_data["from_output"] = from_output;
        save_scalars(ctx, {act, alpha, gain, clamp});
        return slope(g, saved, from_output, demod, noise, bias, {act, alpha, gain, clamp});
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto t = ctx->get_saved_variables();
        variable_list out(10);
        out[0] = slope(grads[0], t[0], ctx->saved_data["from_output"].toBool(), some(t[1]), some(t[2]), some(t[3]), saved_scalars(ctx));
        return out;
    }
};

// With v = g m the outputs are v d, sum v x, sum_c v, sum v. For the cotangents vx, vd, vn, vb:
// g: m (vx d + vd x + vn + vb),  x: v vd,  demod: sum v vx.
struct EpilogueBackward : Function<EpilogueBackward> {
    static variable_list forward(AutogradContext* ctx, const Tensor& g, const Tensor& saved, bool from_output,
                                 const optional<Tensor>& demod, const optional<Tensor>& noise, const optional<Tensor>& bias,
                                 int64_t act, double alpha, double gain, double clamp, bool want_d, bool want_n, bool want_b) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({g, saved, bare(demod), bare(noise), bare(bias)});
        ctx->set_materialize_grads(false);
        ctx->saved_data["from_output"] = from_output;
        ctx->saved_data["wants"] = (int64_t)(want_d | want_n << 1 | want_b << 2);
        save_scalars(ctx, {act, alpha, gain, clamp});
        auto [gx, gd, gn, gb] = epilogue_backward(g, saved, from_output, demod, noise, bias, {act, alpha, gain, clamp},
                                                  want_d, want_n, want_b);
        return {gx, gd, gn, gb};
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto t = ctx->get_saved_variables();
        const Tensor &g = t[0], &saved = t[1], &demod = t[2], &vx = grads[0];
        int64_t wants = ctx->saved_data["wants"].toInt();
        auto wide = [&](int i) { return grads[i].defined() && (wants >> (i - 1) & 1) ? grads[i] : Tensor(); };
        Tensor vd = wide(1), vn = wide(2), vb = wide(3);
        if (vd.defined()) vd = vd.unsqueeze(-1).unsqueeze(-1);
        if (vb.defined()) vb = vb.unsqueeze(-1).unsqueeze(-1);
        auto m = [&](const Tensor& v) {
            return slope(v, saved, ctx->saved_data["from_output"].toBool(), some(demod), some(t[3]), some(t[4]), saved_scalars(ctx));
        };
        variable_list out(13);
        auto type = sums(g);
        if (ctx->needs_input_grad(0)) {
            Tensor total;
            auto add = [&](const Tensor& part) { total = total.defined() ? total + part : part; };
            if (vx.defined()) add(demod.defined() ? vx.to(type) * demod.unsqueeze(-1).unsqueeze(-1) : vx.to(type));
            if (vd.defined()) add(saved.to(type) * vd);
            if (vn.defined()) add(vn);
            if (vb.defined()) add(vb);
            if (total.defined()) out[0] = m(total.expand_symint(g.sym_sizes()).to(g.scalar_type()));
        }
        bool to_x = ctx->needs_input_grad(1) && vd.defined();
        bool to_d = demod.defined() && demod.requires_grad() && vx.defined();
        if (to_x || to_d) {
            Tensor v = m(g).to(type);
            if (to_x) out[1] = (v * vd).to(saved.scalar_type());
            if (to_d) out[3] = (v * vx.to(type)).sum({2, 3});
        }
        return out;
    }
};

}  // namespace
