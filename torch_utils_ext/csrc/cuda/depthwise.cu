// Launchers of depthwise 3x3 and its gradients.
#include "strips.h"

namespace tux {
namespace {

constexpr int64_t kSharePixels = 1 << 16;   // most pixels of a plane in one block of a gradient for the filter
constexpr int64_t kManyPixels = 1 << 24;    // enough to fill a device with tall strips

// f(V) for the columns of a strip: as wide as rows and pointers allow.
template <class T, class F> int with_columns(bool aligned, int64_t W, F f)
{
    if (aligned && W % kWide<T> == 0)
        return f(Int<kWide<T>>());
    if constexpr (kWide<T> == 8)
        if (aligned && W % 4 == 0)
            return f(Int<4>());
    return f(Int<1>());
}

// Rows of a strip. In taller strips fewer rows are read twice. Powers of two divide the usual planes into as many strips as a group
// has threads.
inline int height_of(int64_t pixels) { return pixels >= kManyPixels ? 8 : 4; }

template <class T> int forward(const void* x, const void* k, int k_per_sample, int flip, void* y,
                               int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    const int height = height_of(N * C * H * W);
    return with_columns<T>(aligned({x, y}), W, [&](auto v) -> int {
        constexpr int V = decltype(v)::value;
        const Strips strips = strips_of(N, C, H, W, V, height);
        const int64_t blocks = blocks_of(strips, kThreads);
        if (!fits_grid(blocks))
            return TUX_TOO_LARGE;
        return LAUNCH((depthwise_kernel<T, V>), unsigned(blocks), kThreads, 0, stream, static_cast<const T*>(x),
                      static_cast<const Acc<T>*>(k), k_per_sample, flip, static_cast<T*>(y), strips);
    });
}

template <class T, bool GX> int backward(const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                                         void* workspace, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    const int height = height_of(N * C * H * W), slices = slices_of(H, W, kSharePixels);
    Acc<T>* out = static_cast<Acc<T>*>(slices > 1 ? workspace : gk);
    const int code = with_columns<T>(aligned({x, g, gx}), W, [&](auto v) -> int {
        constexpr int V = decltype(v)::value;
        const Strips strips = strips_of(N, C, H, W, V, height);
        const Slices parts = slices_of(strips, slices, kThreads);
        const int64_t blocks = blocks_of(strips, parts, kThreads);
        if (!fits_grid(blocks))
            return TUX_TOO_LARGE;
        return LAUNCH((depthwise_backward_kernel<T, V, GX>), unsigned(blocks), kThreads, 0, stream, static_cast<const T*>(x),
                      static_cast<const Acc<T>*>(k), k_per_sample, static_cast<const T*>(g), static_cast<T*>(gx), out, strips, parts);
    });
    return code || slices == 1 ? code : sum_rows<Acc<T>>(out, static_cast<Acc<T>*>(gk), N * C * 9, slices, stream);
}

}   // namespace
}   // namespace tux

//----------------------------------------------------------------------------

extern "C" int tux_depthwise(int dtype, const void* x, const void* k, int k_per_sample, int flip, void* y,
                             int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::forward<decltype(type)>(x, k, k_per_sample, flip, y, N, C, H, W, stream);
    });
}

extern "C" int64_t tux_depthwise_weight_grad_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W)
{
    const int64_t slices = tux::slices_of(H, W, tux::kSharePixels);
    return slices > 1 ? N * C * 9 * slices * (dtype == TUX_F64 ? 8 : 4) : 0;
}

extern "C" int tux_depthwise_weight_grad(int dtype, const void* x, const void* g, void* gk, void* workspace,
                                         int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::backward<decltype(type), false>(x, nullptr, 0, g, nullptr, gk, workspace, N, C, H, W, stream);
    });
}

extern "C" int tux_depthwise_backward(int dtype, const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                                      void* workspace, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::backward<decltype(type), true>(x, k, k_per_sample, g, gx, gk, workspace, N, C, H, W, stream);
    });
}
