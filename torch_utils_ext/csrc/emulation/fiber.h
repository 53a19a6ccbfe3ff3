// A fiber is a function with a separate stack that can be left and entered again. On x86-64 it switches in assembly, else by
// ucontext.
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

    void start(void (*function)());     // the next enter() calls the function; an earlier state of the fiber is dropped
    void enter();                       // called by the scheduler; returns at leave()
    void leave(bool for_good = false);  // called in the fiber; returns to the scheduler

private:
    static void run();

    char* stack_;
    void (*function_)() = nullptr;
    void* fake_stack_ = nullptr;        // for AddressSanitizer
#ifdef SPIDER_EMULATION_UCONTEXT
    ucontext_t context_;
#else
    void* stack_pointer_ = nullptr;
#endif
};

}   // namespace emulation
