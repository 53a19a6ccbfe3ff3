// The ops in torch: schemas, shapes, gradients, and the way to the libraries that implement abi.h.
//
// A library is opened per device kind by torch.ops.torch_utils_ext._open. Gradients are written here in terms of the ops
// themselves, so that they can be differentiated again. Compiles without CUDA headers; torch/extension.h would treble its time.

#include <dlfcn.h>

#include <ATen/core/Tensor.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sigmoid.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "abi.h"

namespace {

using at::Tensor;
using std::optional;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

//---------------------------------------------------------------------------
// Libraries. One table per device kind; the entries are named as in abi.h, without the prefix.

#define TUX_REQUIRED(X) \
    X(abi_version) X(error_string) X(depthwise) X(depthwise_weight_grad_workspace) X(depthwise_weight_grad) \
    X(depthwise_up2) X(depthwise_up2_transpose) X(depthwise_up2_weight_grad_workspace) X(depthwise_up2_weight_grad) \
    X(epilogue) X(epilogue_slope) X(epilogue_backward_workspace) X(epilogue_backward) \
    X(affine_glu) X(affine_glu_backward_workspace) X(affine_glu_backward)
#define TUX_OPTIONAL(X) X(depthwise_backward) X(depthwise_up2_backward)

struct Library {
#define TUX_ENTRY(name) decltype(&tux_##name) name = nullptr;
    TUX_REQUIRED(TUX_ENTRY)
    TUX_OPTIONAL(TUX_ENTRY)
#undef TUX_ENTRY
};

Library libraries[2];                               // cpu, cuda
bool opened[2] = {false, false};

void open_library(const std::string& kind, const std::string& path) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(handle, dlerror());
    Library found;
#define TUX_ENTRY(name) \
    found.name = (decltype(found.name))dlsym(handle, "tux_" #name); \
    TORCH_CHECK(found.name, path, " lacks tux_" #name);
    TUX_REQUIRED(TUX_ENTRY)
#undef TUX_ENTRY
#define TUX_ENTRY(name) found.name = (decltype(found.name))dlsym(handle, "tux_" #name);
    TUX_OPTIONAL(TUX_ENTRY)
#undef TUX_ENTRY
    TORCH_CHECK(found.abi_version() == TUX_ABI_VERSION, path, " has another version of abi.h");
    libraries[kind == "cuda"] = found;
    opened[kind == "cuda"] = true;
}

const Library& library_of(const Tensor& x) {
    bool cuda = x.device().is_cuda();
    TORCH_CHECK(opened[cuda], "no kernels are loaded for ", x.device());
    return libraries[cuda];
}

// The current stream of x's device, by a C function of torch's CUDA library: its C++ headers need a CUDA toolkit.
void* stream_of(const Tensor& x) {
    if (!x.device().is_cuda()) return nullptr;
    typedef int (*getter)(int32_t, void**);
    static getter get = [] {
        const char* name = "aoti_torch_get_current_cuda_stream";
        void* symbol = dlsym(RTLD_DEFAULT, name);
        if (!symbol)
            if (void* handle = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_NOLOAD)) symbol = dlsym(handle, name);
        return (getter)symbol;
    }();
    TORCH_CHECK(get, "this torch does not tell its CUDA stream");
    void* stream = nullptr;
    TORCH_CHECK(get(x.device().index(), &stream) == 0, "no CUDA stream");
    return stream;
}

//---------------------------------------------------------------------------
// What every op does with its tensors.

at::ScalarType sums(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

int code_of(const Tensor& x) {
    switch (x.scalar_type()) {
        case at::kFloat: return TUX_F32;
        case at::kHalf: return TUX_F16;
        case at::kBFloat16: return TUX_BF16;
        case at::kDouble: return TUX_F64;
        default: TORCH_CHECK(false, "no kernel for activations of type ", x.scalar_type());
    }
}

void check_image(const Tensor& x) { TORCH_CHECK(x.dim() == 4, "expected [N, C, H, W], got ", x.sym_sizes()); }

void check_pair(const Tensor& x, const Tensor& g, int scale) {
    check_image(x);
    TORCH_CHECK(g.dim() == 4 && g.sym_size(0) == x.sym_size(0) && g.sym_size(1) == x.sym_size(1) &&
                g.sym_size(2) == x.sym_size(2) * scale && g.sym_size(3) == x.sym_size(3) * scale &&
                g.scalar_type() == x.scalar_type() && g.device() == x.device(), "x and g do not belong together");
}

void check_filters(const Tensor& x, const Tensor& k, int phases) {
    check_image(x);
    int64_t d = phases == 4 ? 5 : 4;
    TORCH_CHECK(k.dim() == d && (k.sym_size(0) == 1 || k.sym_size(0) == x.sym_size(0)) && k.sym_size(1) == x.sym_size(1) &&
                (phases == 1 || k.sym_size(2) == phases) && k.sym_size(d - 2) == 3 && k.sym_size(d - 1) == 3,
                "filters of shape ", k.sym_sizes(), " for activations of shape ", x.sym_sizes());
    TORCH_CHECK(k.scalar_type() == sums(x) && k.device() == x.device(), "filters are float32, double beside double");
}


Tensor fresh(const Tensor& like, c10::SymIntArrayRef shape, at::ScalarType type) {
    return at::empty_symint(shape, like.options().dtype(type).memory_format(std::nullopt));
}

struct Sizes { int64_t N, C, H, W; };
Sizes sizes_of(const Tensor& x) { return {x.size(0), x.size(1), x.size(2), x.size(3)}; }

const void* pointer(const optional<Tensor>& t) { return t ? t->const_data_ptr() : nullptr; }
void* wanted(Tensor& t, bool want) { return want ? t.data_ptr() : nullptr; }
optional<Tensor> dense(const optional<Tensor>& t) { return t ? optional<Tensor>(t->contiguous()) : t; }
optional<Tensor> some(const Tensor& t) { return t.defined() ? optional<Tensor>(t) : std::nullopt; }
Tensor bare(const optional<Tensor>& t) { return t ? *t : Tensor(); }

void finish(const Library& library, const char* name, int code) {
    TORCH_CHECK(code == TUX_OK, name, ": ", library.error_string(code));
}

// Sums the per-sample gradient of something that the samples share.
Tensor shared(const Tensor& grad, const Tensor& of) {
    return of.sym_size(0) == 1 && grad.sym_size(0) != 1 ? grad.sum(0, true) : grad;
}

#define TUX_CALL(x, name, ...) do { \
    const Library& library = library_of(x); \
    c10::OptionalDeviceGuard guard(x.device()); \
    finish(library, #name, library.name(code_of(x), __VA_ARGS__, stream_of(x))); } while (0)

// Calls the op through torch, so that gradients of gradients and other modes see it.
#define TUX_OP(name, ...) \
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("torch_utils_ext::" name, "").typed<__VA_ARGS__>()

//---------------------------------------------------------------------------
// depthwise

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

// y = D_f(x, k):  gx = D_!f(g, k),  gk = W(x, g), flipped where f is set.
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

//---------------------------------------------------------------------------
// depthwise_up2

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

struct Up2 : Function<Up2> {
    static Variable forward(AutogradContext* ctx, const Tensor& x, const Tensor& k) {
        at::AutoDispatchBelowADInplaceOrView guard;
        ctx->save_for_backward({x, k});
        return up2(x, k);
    }
    static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
        auto saved = ctx->get_saved_variables();
        const Tensor &x = saved[0], &k = saved[1], &g = grads[0];
        Tensor gx, gk;
        if (ctx->needs_input_grad(0) && ctx->needs_input_grad(1)) {
            TUX_OP("depthwise_up2_backward", std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&));
            std::tie(gx, gk) = op.call(x, k, g);
            gk = shared(gk, k);
        } else {
            if (ctx->needs_input_grad(0)) gx = up2_transpose(g, k);
            if (ctx->needs_input_grad(1)) gk = shared(up2_weight_grad(x, g), k);
        }
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

//---------------------------------------------------------------------------
// epilogue. Where there is no demodulation the output is saved, which the next layer saves anyway; else the input.

struct Scalars {
    int64_t act;
    double alpha, gain, clamp;
};

tux_epilogue_args arguments(const Tensor& x, const optional<Tensor>& demod, const optional<Tensor>& noise,
                            const optional<Tensor>& bias, Scalars s) {
    return {pointer(demod), pointer(noise), pointer(bias), noise && noise->size(0) == x.size(0), (int)s.act, s.alpha, s.gain, s.clamp};
}

#define TUX_SIDES const optional<Tensor>&, const optional<Tensor>&, const optional<Tensor>&, int64_t, double, double, double

void check_sides(const Tensor& x, const optional<Tensor>& demod, const optional<Tensor>& noise, const optional<Tensor>& bias) {
    check_image(x);
    if (demod) TORCH_CHECK(demod->dim() == 2 && demod->sym_size(0) == x.sym_size(0), "demod is [N, C]");
    if (demod) TORCH_CHECK(demod->sym_size(1) == x.sym_size(1) && demod->scalar_type() == sums(x), "demod is [N, C], float32");
    if (noise) TORCH_CHECK(noise->dim() == 4 && noise->sym_size(1) == 1 && noise->scalar_type() == sums(x) &&
                           (noise->sym_size(0) == 1 || noise->sym_size(0) == x.sym_size(0)) &&
                           noise->sym_size(2) == x.sym_size(2) && noise->sym_size(3) == x.sym_size(3),
                           "noise is [N or 1, 1, H, W], float32");
    if (bias) TORCH_CHECK(bias->dim() == 1 && bias->sym_size(0) == x.sym_size(1) && bias->scalar_type() == sums(x),
                          "bias is [C], float32");
}

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

// Gradients for x, demod, noise and bias; the last three per sample, and empty where they are not wanted.
typedef std::tuple<Tensor, Tensor, Tensor, Tensor> Four;

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

struct EpilogueSlope : Function<EpilogueSlope> {    // linear in g and its own transpose; the slope is piecewise constant
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

//---------------------------------------------------------------------------
// affine_glu

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
// V = vx scale + vs x + vt + vn = [Va, Vb]; then sum w V = sum g (s Va + a s' Vb), which is differentiated for all it holds.
// Plain torch: only a second derivative comes here.
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
Tensor glu_autograd(TUX_AFFINE) { return AffineGlu::apply(x, scale, shift, noise); }
Four glu_backward_autograd(const Tensor& g, TUX_AFFINE) { return four<AffineGluBackward>(g, x, scale, shift, noise); }

Tensor epilogue_autograd(const Tensor& x, const optional<Tensor>& demod, const optional<Tensor>& noise, const optional<Tensor>& bias,
                         int64_t act, double alpha, double gain, double clamp) {
    return Epilogue::apply(x, demod, noise, bias, act, alpha, gain, clamp);
}

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
    m.def("depthwise_up2_transpose(Tensor g, Tensor k) -> Tensor");
    m.def("depthwise_up2_weight_grad(Tensor x, Tensor g) -> Tensor");
    m.def("depthwise_up2_backward(Tensor x, Tensor k, Tensor g) -> (Tensor, Tensor)");
    m.def("epilogue(Tensor x, " TUX_SCALARS ") -> Tensor");
    m.def("epilogue_slope(Tensor g, Tensor saved, bool from_output, " TUX_SCALARS ") -> Tensor");
    m.def("epilogue_backward(Tensor g, Tensor saved, bool from_output, " TUX_SCALARS ", bool want_demod, bool want_noise, "
          "bool want_bias) -> (Tensor, Tensor, Tensor, Tensor)");
    m.def("affine_glu(Tensor x, Tensor? scale, Tensor? shift, Tensor? noise) -> Tensor");
    m.def("affine_glu_backward(Tensor g, Tensor x, Tensor? scale, Tensor? shift, Tensor? noise) -> (Tensor, Tensor, Tensor, Tensor)");
    m.def("_open(str kind, str path) -> ()", open_library);
}

#define TUX_KERNELS(suffix) \
    m.impl("depthwise", depthwise_##suffix); \
    m.impl("depthwise_weight_grad", weight_grad_##suffix); \
    m.impl("depthwise_backward", backward_##suffix); \
    m.impl("depthwise_up2", up2_##suffix); \
    m.impl("depthwise_up2_transpose", up2_transpose_##suffix); \
    m.impl("depthwise_up2_weight_grad", up2_weight_grad_##suffix); \
    m.impl("depthwise_up2_backward", up2_backward_##suffix); \
    m.impl("epilogue", epilogue_##suffix); \
    m.impl("epilogue_slope", slope_##suffix); \
    m.impl("epilogue_backward", epilogue_backward_##suffix); \
    m.impl("affine_glu", glu_##suffix); \
    m.impl("affine_glu_backward", glu_backward_##suffix);

TORCH_LIBRARY_IMPL(torch_utils_ext, CPU, m) { TUX_KERNELS(kernel) }
TORCH_LIBRARY_IMPL(torch_utils_ext, CUDA, m) { TUX_KERNELS(kernel) }
TORCH_LIBRARY_IMPL(torch_utils_ext, Meta, m) { TUX_KERNELS(meta) }

TORCH_LIBRARY_IMPL(torch_utils_ext, Autograd, m) {
    m.impl("depthwise", depthwise_autograd);
    m.impl("depthwise_weight_grad", pair<WeightGrad>);
    m.impl("depthwise_backward", two<DepthwiseBackward>);
    m.impl("depthwise_up2", pair<Up2>);
    m.impl("depthwise_up2_transpose", pair<Up2Transpose>);
    m.impl("depthwise_up2_weight_grad", pair<Up2WeightGrad>);
    m.impl("depthwise_up2_backward", two<Up2Backward>);
    m.impl("epilogue", epilogue_autograd);
    m.impl("epilogue_slope", slope_autograd);
    m.impl("epilogue_backward", epilogue_backward_autograd);
    m.impl("affine_glu", glu_autograd);
    m.impl("affine_glu_backward", glu_backward_autograd);
}
