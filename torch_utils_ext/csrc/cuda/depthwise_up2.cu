// Launchers of twofold upsampling and its gradients.
#include "epilogue_args.h"
#include "strips.h"
#include "../kernels/depthwise_up2.h"

namespace tux {
namespace {

constexpr int64_t kSharePixels = 1 << 14;   // most pixels of a small plane in one block of a gradient
constexpr int kHeight = 4;                  // rows of a strip of the small plane

// f(V) for the strips of the small plane: the widest that rows and pointers allow.
template <int Wide, class F> int with_columns(bool aligned, int64_t W, F f)
{
    if constexpr (Wide > 1)
        if (aligned && W % Wide == 0)
            return f(Int<Wide>());
    return f(Int<1>());
}

template <class T, bool EPILOGUE> int up2(const void* x, const void* k, int k_per_sample, const tux_epilogue_args& args, void* y,
                                          int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    return with_columns<kWide<T> / 2>(aligned({x, k, y, args.noise}), W, [&](auto v) -> int {
        constexpr int V = decltype(v)::value;
        const Strips strips = strips_of(N, C, H, W, V, kHeight);
        const int64_t blocks = blocks_of(strips, kThreads);
        if (!fits_grid(blocks))
            return TUX_TOO_LARGE;
        return LAUNCH((depthwise_up2_kernel<T, V, EPILOGUE>), unsigned(blocks), kThreads, 0, stream, static_cast<const T*>(x),
                      static_cast<const Acc<T>*>(k), k_per_sample, device_args<Acc<T>>(args), static_cast<T*>(y), strips);
    });
}

template <class T, bool GX, bool GK> int backward(const void* x, const void* k, int k_per_sample, const void* g, void* gx, void* gk,
                                                  void* workspace, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    const int slices = slices_of(H, W, kSharePixels);
    Acc<T>* out = static_cast<Acc<T>*>(slices > 1 ? workspace : gk);
    const int code = with_columns<(sizeof(T) > 4 ? 1 : 2)>(aligned({x, k, g, gx}), W, [&](auto v) -> int {
        constexpr int V = decltype(v)::value;
        const Strips strips = strips_of(N, C, H, W, V, kHeight);
        const Slices parts = slices_of(strips, slices, kUp2Threads);
        const int64_t blocks = blocks_of(strips, parts, kUp2Threads);
        if (!fits_grid(blocks))
            return TUX_TOO_LARGE;
        constexpr bool narrow = V == 1;     // one kernel for all three; outputs that are not wanted are NULL
        return LAUNCH((depthwise_up2_backward_kernel<T, V, GX || narrow, GK || narrow>), unsigned(blocks), kUp2Threads, 0, stream,
                      static_cast<const T*>(x), static_cast<const Acc<T>*>(k), k_per_sample, static_cast<const T*>(g),
                      static_cast<T*>(gx), out, strips, parts);
    });
    return code || slices == 1 || !GK ? code : sum_rows<Acc<T>>(out, static_cast<Acc<T>*>(gk), N * C * 36, slices, stream);
}

}   // namespace
}   // namespace tux

//----------------------------------------------------------------------------

extern "C" int tux_depthwise_up2(int dtype, const void* x, const void* k, int k_per_sample, void* y,
                                 int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 4))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::up2<decltype(type), false>(x, k, k_per_sample, {}, y, N, C, H, W, stream);
    });
}

extern "C" int tux_depthwise_up2_epilogue(int dtype, const void* x, const void* k, int k_per_sample, const tux_epilogue_args* args,
                                          void* y, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 4))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::up2<decltype(type), true>(x, k, k_per_sample, *args, y, N, C, H, W, stream);
    });
}

extern "C" int tux_depthwise_up2_transpose(int dtype, const void* g, const void* k, int k_per_sample, void* gx,
                                           int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 4))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::backward<decltype(type), true, false>(nullptr, k, k_per_sample, g, gx, nullptr, nullptr, N, C, H, W, stream);
    });
}

extern "C" int64_t tux_depthwise_up2_weight_grad_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W)
{
    const int64_t slices = tux::slices_of(H, W, tux::kSharePixels);
    return slices > 1 ? N * C * 36 * slices * (dtype == TUX_F64 ? 8 : 4) : 0;
}

extern "C" int tux_depthwise_up2_weight_grad(int dtype, const void* x, const void* g, void* gk, void* workspace,
                                             int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 4))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::backward<decltype(type), false, true>(x, nullptr, 0, g, nullptr, gk, workspace, N, C, H, W, stream);
    });
}

extern "C" int tux_depthwise_up2_backward(int dtype, const void* x, const void* k, int k_per_sample, const void* g, void* gx,
                                          void* gk, void* workspace, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 4))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::backward<decltype(type), true, true>(x, k, k_per_sample, g, gx, gk, workspace, N, C, H, W, stream);
    });
}
