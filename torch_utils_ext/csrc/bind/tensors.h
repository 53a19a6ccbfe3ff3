// Helpers of all ops: checks and allocation of tensors, and the calls of a kernel (TUX_CALL) and of an op (TUX_OP).

#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "library.h"

namespace {

using std::optional;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

typedef std::tuple<Tensor, Tensor, Tensor, Tensor> Four;

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

// The side inputs of an epilogue, demod, noise and bias, each of which is optional.
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

// Sums the per-sample gradient of a tensor that the samples share.
Tensor shared(const Tensor& grad, const Tensor& of) {
    return of.sym_size(0) == 1 && grad.sym_size(0) != 1 ? grad.sum(0, true) : grad;
}

#define TUX_CALL(x, name, ...) do { \
    const Library& library = library_of(x); \
    c10::OptionalDeviceGuard guard(x.device()); \
    finish(library, #name, library.name(code_of(x), __VA_ARGS__, stream_of(x))); } while (0)

// Calls the op through torch's dispatcher, so that gradients of gradients and other modes work.
#define TUX_OP(name, ...) \
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("torch_utils_ext::" name, "").typed<__VA_ARGS__>()

}  // namespace
