// conv3x3, conv3x3_down2 and conv4x4_down2: kernels, shapes and gradients of each of their ops. In all of them x is the image of the
// channels I.

#pragma once

#include "tensors.h"

namespace {

typedef c10::ArrayRef<double> Taps;

// Sizes of an op: x is [N, I, H, W], y is [N, O, H / scale, W / scale], w is [O, I, size, size]; of x and y only one is given.
void check_weight(const Tensor& image, const Tensor& w, int64_t channels_at, int64_t size = 3) {
    check_image(image);
    TORCH_CHECK(w.dim() == 4 && w.sym_size(channels_at) == image.sym_size(1) && w.sym_size(2) == size && w.sym_size(3) == size &&
                w.scalar_type() == image.scalar_type() && w.device() == image.device(),
                "weights of shape ", w.sym_sizes(), " for activations of shape ", image.sym_sizes());
}

void check_images(const Tensor& x, const Tensor& g, int scale) {
    check_image(x);
    TORCH_CHECK(g.dim() == 4 && g.sym_size(0) == x.sym_size(0) && g.sym_size(2) * scale == x.sym_size(2) &&
                g.sym_size(3) * scale == x.sym_size(3) && g.scalar_type() == x.scalar_type() && g.device() == x.device(),
                "x and g do not belong together");
}

void check_even(const Tensor& x) {
    TORCH_CHECK(x.sym_size(2) % 2 == 0 && x.sym_size(3) % 2 == 0, "expected an even height and width, got ", x.sym_sizes());
}

void check_taps(const Tensor& x, Taps taps) {
    TORCH_CHECK(taps.size() == 4, "expected four taps, got ", taps.size());
    check_even(x);
}

#define TUX_CONVOLUTION(x, kind, N, I, O, H, W) \
    TORCH_CHECK(library_of(x).kind, "no kernel for ", x.device()); \
    Tensor work = at::empty({library_of(x).kind##_workspace(code_of(x), N, I, O, H, W)}, x.options().dtype(at::kByte))

//---------------------------------------------------------------------------

Tensor conv3x3_meta(const Tensor& x, const Tensor& w, bool transposed) {
    check_weight(x, w, transposed ? 0 : 1);
    return fresh(x, {x.sym_size(0), w.sym_size(transposed ? 1 : 0), x.sym_size(2), x.sym_size(3)}, x.scalar_type());
}

Tensor conv3x3_kernel(const Tensor& x_, const Tensor& w_, bool transposed) {
    Tensor y = conv3x3_meta(x_, w_, transposed), x = x_.contiguous(), w = w_.contiguous();
    int64_t N = x.size(0), I = w.size(1), O = w.size(0), H = x.size(2), W = x.size(3);
    TUX_CONVOLUTION(x, conv3x3, N, I, O, H, W);
    TUX_CALL(x, conv3x3, x.const_data_ptr(), w.const_data_ptr(), transposed, y.data_ptr(), work.data_ptr(), N, I, O, H, W);
    return y;
}

Tensor conv3x3(const Tensor& x, const Tensor& w, bool transposed) {
    TUX_OP("conv3x3", Tensor(const Tensor&, const Tensor&, bool));
    return op.call(x, w, transposed);
}

Tensor conv3x3_weight_grad_meta(const Tensor& x, const Tensor& g) {
    check_images(x, g, 1);
    return fresh(x, {g.sym_size(1), x.sym_size(1), 3, 3}, x.scalar_type());
}

Tensor conv3x3_weight_grad_kernel(const Tensor& x_, const Tensor& g_) {
    Tensor gw = conv3x3_weight_grad_meta(x_, g_), x = x_.contiguous(), g = g_.contiguous();
    int64_t N = x.size(0), I = x.size(1), O = g.size(1), H = x.size(2), W = x.size(3);
    TUX_CONVOLUTION(x, conv3x3, N, I, O, H, W);
    TUX_CALL(x, conv3x3_weight_grad, x.const_data_ptr(), g.const_data_ptr(), gw.data_ptr(), work.data_ptr(), N, I, O, H, W);
    return gw;
}

Tensor conv3x3_weight_grad(const Tensor& x, const Tensor& g) {
    TUX_OP("conv3x3_weight_grad", Tensor(const Tensor&, const Tensor&));
    return op.call(x, g);
}

// The gradients of an op y = C_t(x, w), OP::run(x, w, transposed), and of OP::weight_grad(x, g), or (g, x) of the transpose.
template <class OP> struct Transposable : Function<OP> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const Tensor& w, bool transposed) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, w});
        ctx->saved_data["transposed"] = transposed;
        return OP::run(x, w, transposed);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &w = saved[1], &g = grads[0];
        bool transposed = ctx->saved_data["transposed"].toBool();
        return {ctx->needs_input_grad(0) ? OP::run(g, w, !transposed) : Tensor(),
                !ctx->needs_input_grad(1) ? Tensor() : transposed ? OP::weight_grad(g, x) : OP::weight_grad(x, g), Variable()};
    }
};

template <class OP> struct WeightGradOf : Function<WeightGradOf<OP>> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const Tensor& g) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, g});
        return OP::weight_grad(x, g);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        return {ctx->needs_input_grad(0) ? OP::run(saved[1], grads[0], true) : Tensor(),
                ctx->needs_input_grad(1) ? OP::run(saved[0], grads[0], false) : Tensor()};
    }
};

struct Conv3x3 : Transposable<Conv3x3> {
    static Tensor run(const Tensor& x, const Tensor& w, bool transposed) { return conv3x3(x, w, transposed); }
    static Tensor weight_grad(const Tensor& x, const Tensor& g) { return conv3x3_weight_grad(x, g); }
};

//---------------------------------------------------------------------------

Tensor conv4x4_down2_meta(const Tensor& x, const Tensor& w, bool transposed) {
    check_weight(x, w, transposed ? 0 : 1, 4);
    if (transposed) return fresh(x, {x.sym_size(0), w.sym_size(1), 2 * x.sym_size(2), 2 * x.sym_size(3)}, x.scalar_type());
    check_even(x);
    return fresh(x, {x.sym_size(0), w.sym_size(0), x.sym_size(2) / 2, x.sym_size(3) / 2}, x.scalar_type());
}

Tensor conv4x4_down2_kernel(const Tensor& from, const Tensor& w_, bool transposed) {
    Tensor to = conv4x4_down2_meta(from, w_, transposed), image = from.contiguous(), w = w_.contiguous();
    const Tensor& large = transposed ? to : image;
    int64_t N = large.size(0), I = w.size(1), O = w.size(0), H = large.size(2), W = large.size(3);
    TUX_CONVOLUTION(image, conv4x4_down2, N, I, O, H, W);
    if (transposed) TUX_CALL(image, conv4x4_down2_transpose, image.const_data_ptr(), w.const_data_ptr(), to.data_ptr(), work.data_ptr(),
                             N, I, O, H, W);
    else TUX_CALL(image, conv4x4_down2, image.const_data_ptr(), w.const_data_ptr(), to.data_ptr(), work.data_ptr(), N, I, O, H, W);
    return to;
}

Tensor conv4x4_down2(const Tensor& x, const Tensor& w, bool transposed) {
    TUX_OP("conv4x4_down2", Tensor(const Tensor&, const Tensor&, bool));
    return op.call(x, w, transposed);
}

Tensor conv4x4_down2_weight_grad_meta(const Tensor& x, const Tensor& g) {
    check_images(x, g, 2);
    check_even(x);
    return fresh(x, {g.sym_size(1), x.sym_size(1), 4, 4}, x.scalar_type());
}

Tensor conv4x4_down2_weight_grad_kernel(const Tensor& x_, const Tensor& g_) {
    Tensor gw = conv4x4_down2_weight_grad_meta(x_, g_), x = x_.contiguous(), g = g_.contiguous();
    int64_t N = x.size(0), I = x.size(1), O = g.size(1), H = x.size(2), W = x.size(3);
    TUX_CONVOLUTION(x, conv4x4_down2, N, I, O, H, W);
    TUX_CALL(x, conv4x4_down2_weight_grad, x.const_data_ptr(), g.const_data_ptr(), gw.data_ptr(), work.data_ptr(), N, I, O, H, W);
    return gw;
}

Tensor conv4x4_down2_weight_grad(const Tensor& x, const Tensor& g) {
    TUX_OP("conv4x4_down2_weight_grad", Tensor(const Tensor&, const Tensor&));
    return op.call(x, g);
}

struct Conv4x4Down2 : Transposable<Conv4x4Down2> {
    static Tensor run(const Tensor& x, const Tensor& w, bool transposed) { return conv4x4_down2(x, w, transposed); }
    static Tensor weight_grad(const Tensor& x, const Tensor& g) { return conv4x4_down2_weight_grad(x, g); }
};

//---------------------------------------------------------------------------

Tensor conv3x3_down2_meta(const Tensor& x, const Tensor& w, Taps taps) {
    check_weight(x, w, 1);
    check_taps(x, taps);
    return fresh(x, {x.sym_size(0), w.sym_size(0), x.sym_size(2) / 2, x.sym_size(3) / 2}, x.scalar_type());
}

Tensor conv3x3_down2_kernel(const Tensor& x_, const Tensor& w_, Taps taps) {
    Tensor y = conv3x3_down2_meta(x_, w_, taps), x = x_.contiguous(), w = w_.contiguous();
    int64_t N = x.size(0), I = x.size(1), O = w.size(0), H = x.size(2), W = x.size(3);
    TUX_CONVOLUTION(x, conv3x3_down2, N, I, O, H, W);
    TUX_CALL(x, conv3x3_down2, x.const_data_ptr(), w.const_data_ptr(), taps.data(), y.data_ptr(), work.data_ptr(), N, I, O, H, W);
    return y;
}

Tensor conv3x3_down2(const Tensor& x, const Tensor& w, Taps taps) {
    TUX_OP("conv3x3_down2", Tensor(const Tensor&, const Tensor&, Taps));
    return op.call(x, w, taps);
}

Tensor conv3x3_up2_meta(const Tensor& y, const Tensor& w, Taps taps) {
    check_weight(y, w, 0);
    TORCH_CHECK(taps.size() == 4, "expected four taps, got ", taps.size());
    return fresh(y, {y.sym_size(0), w.sym_size(1), 2 * y.sym_size(2), 2 * y.sym_size(3)}, y.scalar_type());
}

Tensor conv3x3_up2_kernel(const Tensor& y_, const Tensor& w_, Taps taps) {
    Tensor x = conv3x3_up2_meta(y_, w_, taps), y = y_.contiguous(), w = w_.contiguous();
    int64_t N = x.size(0), I = x.size(1), O = w.size(0), H = x.size(2), W = x.size(3);
    TUX_CONVOLUTION(x, conv3x3_down2, N, I, O, H, W);
    TUX_CALL(x, conv3x3_down2_transpose, y.const_data_ptr(), w.const_data_ptr(), taps.data(), x.data_ptr(), work.data_ptr(),
             N, I, O, H, W);
    return x;
}

Tensor conv3x3_up2(const Tensor& y, const Tensor& w, Taps taps) {
    TUX_OP("conv3x3_up2", Tensor(const Tensor&, const Tensor&, Taps));
    return op.call(y, w, taps);
}

Tensor conv3x3_down2_weight_grad_meta(const Tensor& x, const Tensor& g, Taps taps) {
    check_images(x, g, 2);
    check_taps(x, taps);
    return fresh(x, {g.sym_size(1), x.sym_size(1), 3, 3}, x.scalar_type());
}

Tensor conv3x3_down2_weight_grad_kernel(const Tensor& x_, const Tensor& g_, Taps taps) {
    Tensor gw = conv3x3_down2_weight_grad_meta(x_, g_, taps), x = x_.contiguous(), g = g_.contiguous();
    int64_t N = x.size(0), I = x.size(1), O = g.size(1), H = x.size(2), W = x.size(3);
    TUX_CONVOLUTION(x, conv3x3_down2, N, I, O, H, W);
    TUX_CALL(x, conv3x3_down2_weight_grad, x.const_data_ptr(), g.const_data_ptr(), taps.data(), gw.data_ptr(), work.data_ptr(),
             N, I, O, H, W);
    return gw;
}

Tensor conv3x3_down2_weight_grad(const Tensor& x, const Tensor& g, Taps taps) {
    TUX_OP("conv3x3_down2_weight_grad", Tensor(const Tensor&, const Tensor&, Taps));
    return op.call(x, g, taps);
}

// An op of two tensors, OP::run(a, b, taps), and its gradients for g, OP::first and OP::second of (a, b, g, taps).
template <class OP> struct Resampled : Function<OP> {
    static Variable forward(AutogradContext* ctx, const Tensor& a, const Tensor& b, std::vector<double> taps) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({a, b});
        ctx->saved_data["taps"] = taps;
        return OP::run(a, b, taps);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        auto taps = ctx->saved_data["taps"].toDoubleVector();
        return {ctx->needs_input_grad(0) ? OP::first(saved[0], saved[1], grads[0], taps) : Tensor(),
                ctx->needs_input_grad(1) ? OP::second(saved[0], saved[1], grads[0], taps) : Tensor(), Variable()};
    }
};

struct Conv3x3Down2 : Resampled<Conv3x3Down2> {
    static Tensor run(const Tensor& x, const Tensor& w, Taps taps) { return conv3x3_down2(x, w, taps); }
    static Tensor first(const Tensor&, const Tensor& w, const Tensor& g, Taps taps) { return conv3x3_up2(g, w, taps); }
    static Tensor second(const Tensor& x, const Tensor&, const Tensor& g, Taps taps) { return conv3x3_down2_weight_grad(x, g, taps); }
};

struct Conv3x3Up2 : Resampled<Conv3x3Up2> {
    static Tensor run(const Tensor& y, const Tensor& w, Taps taps) { return conv3x3_up2(y, w, taps); }
    static Tensor first(const Tensor&, const Tensor& w, const Tensor& g, Taps taps) { return conv3x3_down2(g, w, taps); }
    static Tensor second(const Tensor& y, const Tensor&, const Tensor& g, Taps taps) { return conv3x3_down2_weight_grad(g, y, taps); }
};

struct Conv3x3Down2WeightGrad : Resampled<Conv3x3Down2WeightGrad> {
    static Tensor run(const Tensor& x, const Tensor& g, Taps taps) { return conv3x3_down2_weight_grad(x, g, taps); }
    static Tensor first(const Tensor&, const Tensor& g, const Tensor& v, Taps taps) { return conv3x3_up2(g, v, taps); }
    static Tensor second(const Tensor& x, const Tensor&, const Tensor& v, Taps taps) { return conv3x3_down2(x, v, taps); }
};

}  // namespace
