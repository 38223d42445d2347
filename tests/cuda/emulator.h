// Runs CUDA kernels on a CPU: one thread after the other, forwards or backwards.
//
// The kernels use no shared memory and no barrier, so loops over blocks and threads are all there is
// to a grid. Launches come by standard input and what they have written goes to standard output;
// every buffer is an allocation of its own of exactly its size, so that a sanitizer sees each index
// that is out of bounds.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define __device__
#define KERNEL static void

struct Dim {
    unsigned x;
};
static Dim blockIdx, blockDim, threadIdx;

// An argument as it came in.
struct Arg {
    enum Kind : uint8_t { words, read, write } kind;
    size_t bytes;
    void* memory;
};

// Why the arguments do not fit the kernel's parameters; nothing where they do.
template <class A>
const char* misfit(const Arg& arg) {
    if constexpr (std::is_pointer_v<A>) {
        bool constant = std::is_const_v<std::remove_pointer_t<A>>;
        if (arg.kind != (constant ? Arg::read : Arg::write)) {
            return constant ? "it must be memory to read" : "it must be memory to write";
        }
    } else if (arg.kind != Arg::words || (sizeof(A) + 7) / 8 * 8 != arg.bytes) {
        return "it must be a value of the parameter's size";
    }
    return nullptr;
}

template <class A>
A value_of(const Arg& arg) {
    if constexpr (std::is_pointer_v<A>) {
        return static_cast<A>(arg.memory);
    } else {
        A value;
        memcpy(&value, arg.memory, sizeof(A));
        return value;
    }
}

const unsigned BLOCK = 256;

template <class... A, size_t... I>
std::string run(
    void (*kernel)(unsigned long long, A...), uint64_t threads, bool backwards,
    const std::vector<Arg>& args, std::index_sequence<I...>
) {
    if (args.size() != sizeof...(A)) {
        return "it has another number of parameters";
    }
    std::string wrong;
    auto check = [&](size_t i, const char* why) {
        if (why) {
            wrong = "argument " + std::to_string(i) + ": " + why;
        }
    };
    (check(I, misfit<A>(args[I])), ...);
    if (!wrong.empty()) {
        return wrong;
    }
    blockDim.x = BLOCK;
    uint64_t all = (threads + BLOCK - 1) / BLOCK * BLOCK;
    for (uint64_t i = 0; i < all; i++) {
        uint64_t thread = backwards ? all - 1 - i : i;
        blockIdx.x = thread / BLOCK;
        threadIdx.x = thread % BLOCK;
        kernel(threads, value_of<A>(args[I])...);
    }
    return "";
}

using Runner = std::string (*)(uint64_t, bool, const std::vector<Arg>&);

template <auto kernel>
struct Launch;

template <class... A, void (*kernel)(unsigned long long, A...)>
struct Launch<kernel> {
    static std::string run(uint64_t threads, bool backwards, const std::vector<Arg>& args) {
        return ::run(kernel, threads, backwards, args, std::index_sequence_for<A...>());
    }
};

struct Entry {
    const char* name;
    Runner run;
};

static bool get(void* to, size_t bytes) {
    return fread(to, 1, bytes, stdin) == bytes;
}

template <class T>
static T number() {
    T value;
    if (!get(&value, sizeof(T))) {
        fprintf(stderr, "emulator: the input ends in the middle\n");
        exit(2);
    }
    return value;
}

static Arg argument() {
    auto kind = static_cast<Arg::Kind>(number<uint8_t>());
    size_t bytes = number<uint64_t>();
    void* memory = malloc(bytes);
    if (!get(memory, bytes)) {
        exit(2);
    }
    return Arg{kind, bytes, memory};
}

static void put(const void* from, size_t bytes) {
    fwrite(from, 1, bytes, stdout);
}

static void answer(const std::string& error, const std::vector<Arg>& args) {
    uint64_t length = error.size();
    put(&length, sizeof length);
    put(error.data(), length);
    for (const Arg& arg : args) {
        if (error.empty() && arg.kind == Arg::write) {
            put(arg.memory, arg.bytes);
        }
        free(arg.memory);
    }
    fflush(stdout);
}

// Launch after launch: length and name of a kernel, threads, whether backwards, arguments.
template <size_t N>
int serve(const Entry (&entries)[N]) {
    uint64_t length;
    while (get(&length, sizeof length)) {
        std::string name(length, ' ');
        if (!get(name.data(), length)) {
            return 2;
        }
        auto threads = number<uint64_t>();
        bool backwards = number<uint8_t>();
        std::vector<Arg> args(number<uint64_t>());
        for (Arg& arg : args) {
            arg = argument();
        }
        std::string error = "there is no such kernel";
        for (const Entry& entry : entries) {
            if (name == entry.name) {
                error = entry.run(threads, backwards, args);
            }
        }
        answer(error.empty() ? error : name + ": " + error, args);
    }
    return 0;
}
