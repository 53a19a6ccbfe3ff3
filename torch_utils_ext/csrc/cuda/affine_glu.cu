// Launchers of the affine gated linear unit and its gradients.
#include "channels.h"
#include "../kernels/affine_glu.h"

namespace tux {
namespace {

template <class A> AffineGluArgs<A> device_args(const void* scale, const void* shift, const void* noise, int noise_per_sample)
{
    return {static_cast<const A*>(scale), static_cast<const A*>(shift), static_cast<const A*>(noise), noise_per_sample};
}

template <class T> int forward(const void* x, const AffineGluArgs<Acc<T>>& args, void* y,
                               int64_t N, int64_t C, int64_t pixels, void* stream)
{
    const bool vectors = pixels % kWide<T> == 0 && aligned({x, y, args.noise});
    return with_vectors<T>(vectors, [&](auto v) -> int {
        constexpr int V = decltype(v)::value;
        const int64_t count = N * C * pixels / V, blocks = divide_up(count, kThreads);
        if (!fits_grid(blocks))
            return TUX_TOO_LARGE;
        return LAUNCH((affine_glu_kernel<T, V>), unsigned(blocks), kThreads, 0, stream, static_cast<const T*>(x), args,
                      static_cast<T*>(y), count, divisor(C), divisor(pixels / V), int(pixels));
    });
}

template <class T> int backward(const void* g, const void* x, const AffineGluArgs<Acc<T>>& args, void* gx, void* gscale,
                                void* gshift, void* gnoise, void* workspace, const ChannelPlan& plan, void* stream)
{
    const AffineGluBackward<T> op = {static_cast<const T*>(g), static_cast<const T*>(x), args, static_cast<T*>(gx)};
    const bool vectors = plan.pixels % kWide<T> == 0 && aligned({g, x, gx, gnoise, args.noise});
    Acc<T>* const scale = static_cast<Acc<T>*>(gscale), *const shift = static_cast<Acc<T>*>(gshift);
    Acc<T>* const sums[4] = {scale, scale, shift, shift};
    return walk_channels<T>(op, vectors, plan, sums, plan.N * 2 * plan.C, static_cast<Acc<T>*>(gnoise), workspace, stream);
}

}   // namespace
}   // namespace tux

//----------------------------------------------------------------------------

extern "C" int tux_affine_glu(int dtype, const void* x, const void* scale, const void* shift, const void* noise,
                              int noise_per_sample, void* y, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    return tux::with_type(dtype, [&](auto type) {
        typedef decltype(type) T;
        const auto args = tux::device_args<tux::Acc<T>>(scale, shift, noise, noise_per_sample);
        return tux::forward<T>(x, args, y, N, C, H * W, stream);
    });
}

extern "C" int64_t tux_affine_glu_backward_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W)
{
    if (N * C * H * W == 0 || tux::too_large(N, C, H, W, 1))
        return 0;
    const tux::ChannelPlan plan = tux::plan_of(dtype, N, C, H, W);
    return (2 * plan.row_part(N * 2 * C) + plan.noise_part()) * (dtype == TUX_F64 ? 8 : 4);
}

extern "C" int tux_affine_glu_backward(int dtype, const void* g, const void* x, const void* scale, const void* shift,
                                       const void* noise, int noise_per_sample, void* gx, void* gscale, void* gshift, void* gnoise,
                                       void* workspace, int64_t N, int64_t C, int64_t H, int64_t W, void* stream)
{
    if (N * C * H * W == 0)
        return TUX_OK;
    if (tux::too_large(N, C, H, W, 1))
        return TUX_TOO_LARGE;
    const tux::ChannelPlan plan = tux::plan_of(dtype, N, C, H, W);
    return tux::with_type(dtype, [&](auto type) {
        typedef decltype(type) T;
        const auto args = tux::device_args<tux::Acc<T>>(scale, shift, noise, noise_per_sample);
        return tux::backward<T>(g, x, args, gx, gscale, gshift, gnoise, workspace, plan, stream);
    });
}
