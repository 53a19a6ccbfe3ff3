// A fiber: a function with a stack of its own that can be left and entered again. x86-64 switches by hand, others by ucontext.
#pragma once
#include <cstddef>
#if !defined(__x86_64__)
#define SPIDER_EMULATION_UCONTEXT
#endif
#ifdef SPIDER_EMULATION_UCONTEXT
#include <ucontext.h>
#endif

namespace emulation {

class Fiber {
public:
    Fiber();                            // takes a stack, with a page below it that traps an overflow
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    void start(void (*function)());     // the next enter() calls it; what the fiber did before is forgotten
    void enter();                       // from the scheduler: until leave()
    void leave(bool for_good = false);  // from within: back to the scheduler

private:
    static void run();

    char* stack_;
    void (*function_)() = nullptr;
    void* fake_stack_ = nullptr;        // of AddressSanitizer
#ifdef SPIDER_EMULATION_UCONTEXT
    ucontext_t context_;
#else
    void* stack_pointer_ = nullptr;
#endif
};

}   // namespace emulation
