// Watched shared memory. It is poisoned when a block begins. Faults are an access outside of an array, a read of an element that
// the block has not written, and two accesses of different threads without a barrier between them, one of them a write.
#pragma once
#include "machine.h"
#include <cstring>

namespace emulation {

template <class T>
class Shared {
public:
    Shared(T* data, Shadow* shadow, size_t count, const char* name) : data_(data), shadow_(shadow), count_(count), name_(name) {}

    class Element {
    public:
        Element(T& value, Shadow& shadow, const char* name, size_t index)
            : value_(value), shadow_(shadow), name_(name), index_(index) {}
        operator T() const { note_read(); return value_; }
        Element& operator=(T value) { note_write(); value_ = value; return *this; }
        Element& operator=(const Element& other) { return *this = T(other); }
        Element& operator+=(T value) { return *this = T(*this) + value; }

    private:
        void note_read() const;
        void note_write() const;
        T& value_;
        Shadow& shadow_;
        const char* name_;
        size_t index_;
    };

    Element operator[](long index) const
    {
        if (index < 0 || size_t(index) >= count_)
            machine.fault("index %ld of shared array %s, which has %zu elements", index, name_, count_);
        return Element(data_[index], shadow_[index], name_, index);
    }

private:
    T* data_;
    Shadow* shadow_;
    size_t count_;
    const char* name_;
};

//----------------------------------------------------------------------------

// Whether an access happened before the current one: it was of the same thread, before the block's last barrier, or of the same
// warp and before the warp's last __syncwarp().
inline bool happened_before(const Shadow::Access& access)
{
    const unsigned warp = access.thread / kWarp;
    return access.thread == machine.current->number || access.epoch < machine.epoch
        || (warp == machine.current->number / kWarp && access.warp_epoch < machine.warp_epoch[warp]);
}

inline Shadow::Access this_access()
{
    const unsigned thread = machine.current->number;
    return {machine.epoch, machine.warp_epoch[thread / kWarp], thread};
}

template <class T>
void Shared<T>::Element::note_read() const
{
    if (shadow_.write.epoch < machine.block_epoch)
        machine.fault("reads %s[%zu], which this block has not written", name_, index_);
    if (!happened_before(shadow_.write))
        machine.fault("race: reads %s[%zu], which thread %u wrote with no barrier since", name_, index_, shadow_.write.thread);
    const unsigned thread = machine.current->number;
    Shadow::Access& slot = shadow_.reads[shadow_.reads[0].epoch == machine.epoch && shadow_.reads[0].thread != thread];
    slot = this_access();
}

template <class T>
void Shared<T>::Element::note_write() const
{
    if (!happened_before(shadow_.write))
        machine.fault("race: writes %s[%zu], which thread %u wrote with no barrier since", name_, index_, shadow_.write.thread);
    for (const Shadow::Access& read : shadow_.reads)
        if (!happened_before(read))
            machine.fault("race: writes %s[%zu], which thread %u read with no barrier since", name_, index_, read.thread);
    shadow_.write = this_access();
}

//----------------------------------------------------------------------------
// The storage of elements. A static array belongs to one place in a kernel; the first thread of a block that reaches it poisons it.

template <class T, size_t Count>
struct StaticShared {
    T data[Count];
    Shadow shadow[Count];
    uint64_t serial = 0;

    Shared<T> view(const char* name)
    {
        if (serial != machine.serial) {
            serial = machine.serial;
            std::memset(static_cast<void*>(data), 0xFF, sizeof data);
        }
        return Shared<T>(data, shadow, Count, name);
    }
};

template <class T>
Shared<T> dynamic_shared(const char* name)
{
    const size_t count = machine.dynamic_shared.size() / sizeof(T);
    return Shared<T>(reinterpret_cast<T*>(machine.dynamic_shared.data()), machine.dynamic_shadow.data(), count, name);
}

}   // namespace emulation
