// Compiles the kernels by NVRTC as the program does: header and file as one text, for each
// architecture and type, warnings as errors. Needs no GPU and no toolkit but the one library.
//
//   nvrtc LIBNVRTC "70 75 ..." HEADER FILE.cu ...

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

using Program = void*;

// The functions of NVRTC that are used; 0 means success.
struct Nvrtc {
    int (*version)(int*, int*);
    int (*count)(int*);
    int (*architectures)(int*);
    int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*);
    int (*compile)(Program, int, const char* const*);
    int (*log_size)(Program, size_t*);
    int (*log)(Program, char*);
    int (*ptx_size)(Program, size_t*);
    int (*ptx)(Program, char*);
    int (*destroy)(Program*);
};

[[noreturn]] static void fail(const std::string& why) {
    fprintf(stderr, "error: %s\n", why.c_str());
    exit(1);
}

static Nvrtc load(const char* path) {
    void* library = dlopen(path, RTLD_NOW);
    if (!library) {
        fail(dlerror());
    }
    auto find = [&](auto& function, const char* name) {
        function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
        if (!function) {
            fail(std::string(path) + " has no " + name);
        }
    };
    Nvrtc nvrtc;
    find(nvrtc.version, "nvrtcVersion");
    find(nvrtc.count, "nvrtcGetNumSupportedArchs");
    find(nvrtc.architectures, "nvrtcGetSupportedArchs");
    find(nvrtc.create, "nvrtcCreateProgram");
    find(nvrtc.compile, "nvrtcCompileProgram");
    find(nvrtc.log_size, "nvrtcGetProgramLogSize");
    find(nvrtc.log, "nvrtcGetProgramLog");
    find(nvrtc.ptx_size, "nvrtcGetPTXSize");
    find(nvrtc.ptx, "nvrtcGetPTX");
    find(nvrtc.destroy, "nvrtcDestroyProgram");
    return nvrtc;
}

static std::string text_of(const char* path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) {
        fail(std::string(path) + " cannot be read");
    }
    return text.str();
}

static size_t times(const std::string& what, const std::string& text) {
    size_t count = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
        count++;
    }
    return count;
}

// How many kernels are in the PTX of a text.
static size_t kernels(
    const Nvrtc& nvrtc, const std::string& text, const char* path, const std::string& architecture,
    const std::string& real
) {
    std::vector<std::string> options = {
        "--gpu-architecture=compute_" + architecture, "-DREAL=" + real
    };
    std::vector<const char*> pointers;
    for (const std::string& option : options) {
        pointers.push_back(option.c_str());
    }
    Program program;
    if (nvrtc.create(&program, text.c_str(), path, 0, nullptr, nullptr)) {
        fail("no program can be made");
    }
    int failed = nvrtc.compile(program, pointers.size(), pointers.data());
    size_t size = 0;
    nvrtc.log_size(program, &size);
    std::string log(size, ' ');
    nvrtc.log(program, log.data());
    // Of the code alone: "nvrtc: warning" says that a GPU is old.
    if (failed || log.find("warning #") != std::string::npos) {
        fail(std::string(path) + " for compute_" + architecture + ": " + log);
    }
    nvrtc.ptx_size(program, &size);
    std::string ptx(size, ' ');
    nvrtc.ptx(program, ptx.data());
    nvrtc.destroy(&program);
    return times(".visible .entry", ptx);
}

int main(int count, char** arguments) {
    if (count < 5) {
        fail("usage: nvrtc LIBNVRTC \"70 75 ...\" HEADER FILE.cu ...");
    }
    Nvrtc nvrtc = load(arguments[1]);
    int major, minor, known_count;
    nvrtc.version(&major, &minor);
    nvrtc.count(&known_count);
    std::vector<int> list(known_count);
    nvrtc.architectures(list.data());
    std::set<int> known(list.begin(), list.end());
    printf("NVRTC %d.%d\n", major, minor);
    std::vector<std::string> architectures;
    std::istringstream wanted(arguments[2]);
    for (std::string architecture; wanted >> architecture;) {
        if (known.count(std::stoi(architecture))) {
            architectures.push_back(architecture);
        } else {
            printf("  left out: this NVRTC does not know compute_%s\n", architecture.c_str());
        }
    }
    std::string header = text_of(arguments[3]);
    for (int i = 4; i < count; i++) {
        std::string text = header + text_of(arguments[i]);
        size_t wanted = times("\nKERNEL ", text);
        for (const std::string& architecture : architectures) {
            for (const char* real : {"float", "double"}) {
                if (kernels(nvrtc, text, arguments[i], architecture, real) != wanted) {
                    fail(std::string(arguments[i]) + ": not every kernel is in the PTX");
                }
            }
        }
        printf("  NVRTC: %s, %zu kernels, float and double,", arguments[i], wanted);
        for (const std::string& architecture : architectures) {
            printf(" compute_%s", architecture.c_str());
        }
        printf("\n");
    }
}
