// moments and norm_gradient: kernels and shapes. They are parts of functions that know their gradients, and have none.

#pragma once

#include "tensors.h"

namespace {

std::tuple<Tensor, Tensor> moments_meta(const Tensor& x) {
    check_image(x);
    return {fresh(x, {x.sym_size(0), x.sym_size(1)}, sums(x)), fresh(x, {x.sym_size(0), x.sym_size(1)}, sums(x))};
}

std::tuple<Tensor, Tensor> moments_kernel(const Tensor& x_) {
    auto [mean, squares] = moments_meta(x_);
    Tensor x = x_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    TORCH_CHECK(library_of(x).moments, "no kernel for ", x.device());
    TUX_CALL(x, moments, x.const_data_ptr(), mean.data_ptr(), squares.data_ptr(), N, C, H, W);
    return {mean, squares};
}

Tensor norm_gradient_meta(const Tensor& v, const Tensor& x, const Tensor& factor, const Tensor& constant) {
    check_pair(x, v, 1);
    check_sides(x, std::nullopt, std::nullopt, factor);
    check_sides(x, std::nullopt, std::nullopt, constant);
    return fresh(x, x.sym_sizes(), x.scalar_type());
}

Tensor norm_gradient_kernel(const Tensor& v_, const Tensor& x_, const Tensor& factor_, const Tensor& constant_) {
    Tensor gx = norm_gradient_meta(v_, x_, factor_, constant_), v = v_.contiguous(), x = x_.contiguous();
    Tensor factor = factor_.contiguous(), constant = constant_.contiguous();
    auto [N, C, H, W] = sizes_of(x);
    TORCH_CHECK(library_of(x).norm_gradient, "no kernel for ", x.device());
    TUX_CALL(x, norm_gradient, v.const_data_ptr(), x.const_data_ptr(), factor.const_data_ptr(), constant.const_data_ptr(),
             gx.data_ptr(), N, C, H, W);
    return gx;
}

}  // namespace
