// Launchers of the epilogue and its gradients.
#include "channels.h"
#include "epilogue_args.h"

namespace tux {
namespace {

template <class T> int forward(const void* x, const tux_epilogue_args& args, void* y, int64_t N, int64_t C, int64_t pixels, void* stream)
{
    const bool vectors = pixels % kWide<T> == 0 && aligned({x, y, args.noise});
    return with_vectors<T>(vectors, [&](auto v) -> int {
        constexpr int V = decltype(v)::value;
        const int64_t count = N * C * pixels / V, blocks = divide_up(count, kThreads);
        if (!fits_grid(blocks))
            return TUX_TOO_LARGE;
        return LAUNCH((epilogue_kernel<T, V>), unsigned(blocks), kThreads, 0, stream, static_cast<const T*>(x),
                      device_args<Acc<T>>(args), static_cast<T*>(y), count, divisor(C), divisor(pixels / V), int(pixels));
    });
}

template <class T, bool FROM_OUTPUT> int slope(const void* g, const void* saved, const tux_epilogue_args& args, void* out,
                                               int64_t N, int64_t C, int64_t pixels, void* stream)
{
    const bool vectors = pixels % kWide<T> == 0 && aligned({g, saved, out, FROM_OUTPUT ? nullptr : args.noise});
    return with_vectors<T>(vectors, [&](auto v) -> int {
        constexpr int V = decltype(v)::value;
        const int64_t count = N * C * pixels / V, blocks = divide_up(count, kThreads);
        if (!fits_grid(blocks))
            return TUX_TOO_LARGE;
        return LAUNCH((epilogue_slope_kernel<T, V, FROM_OUTPUT>), unsigned(blocks), kThreads, 0, stream, static_cast<const T*>(g),
                      static_cast<const T*>(saved), device_args<Acc<T>>(args), static_cast<T*>(out), count, divisor(C), divisor(pixels / V), int(pixels));
    });
}

template <class T, bool FROM_OUTPUT> int backward(const void* g, const void* saved, const tux_epilogue_args& args, void* gx,
                                                  void* gdemod, void* gnoise, void* gbias, void* workspace,
                                                  const ChannelPlan& plan, void* stream)
{
    typedef EpilogueBackward<T, FROM_OUTPUT> Op;
    const Op op = {static_cast<const T*>(g), static_cast<const T*>(saved), device_args<Acc<T>>(args), static_cast<T*>(gx)};
    const bool vectors = plan.pixels % kWide<T> == 0 && aligned({g, saved, gx, gnoise, FROM_OUTPUT ? nullptr : args.noise});
    Acc<T>* const sums[2] = {FROM_OUTPUT ? nullptr : static_cast<Acc<T>*>(gdemod), static_cast<Acc<T>*>(gbias)};
    return walk_channels<T>(op, vectors, plan, sums, plan.N * plan.C, static_cast<Acc<T>*>(gnoise), workspace, stream);
}

}   // namespace
}   // namespace tux

//----------------------------------------------------------------------------

extern "C" int tux_epilogue(int dtype, const void* x, const tux_epilogue_args* args, void* y,
                            int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        return tux::forward<decltype(type)>(x, *args, y, N, C, H * W, stream);
    });
}

extern "C" int tux_epilogue_slope(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args,
                                  void* out, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        typedef decltype(type) T;
        return from_output ? tux::slope<T, true>(g, saved, *args, out, N, C, H * W, stream)
                           : tux::slope<T, false>(g, saved, *args, out, N, C, H * W, stream);
    });
}

extern "C" int64_t tux_epilogue_backward_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W)
{
    if (N * C * H * W == 0 || tux::too_large(N, C, H, W, 1))
        return 0;
    const tux::ChannelPlan plan = tux::plan_of(dtype, N, C, H, W);
    return (2 * plan.row_part(N * C) + plan.noise_part()) * (dtype == TUX_F64 ? 8 : 4);
}

extern "C" int tux_epilogue_backward(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args,
                                     void* gx, void* gdemod, void* gnoise, void* gbias, void* workspace,
                                     int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    const tux::ChannelPlan plan = tux::plan_of(dtype, N, C, H, W);
    return tux::with_type(dtype, [&](auto type) {
        typedef decltype(type) T;
        return from_output ? tux::backward<T, true>(g, saved, *args, gx, gdemod, gnoise, gbias, workspace, plan, stream)
                           : tux::backward<T, false>(g, saved, *args, gx, gdemod, gnoise, gbias, workspace, plan, stream);
    });
}
