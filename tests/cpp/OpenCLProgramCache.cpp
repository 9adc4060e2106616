/*
 * Tests make hundreds of Contexts of the OpenCL platform, and each compiles its kernels, which takes seconds
 * on Intel's CPU runtime.  Loaded before libOpenCL.so.1, this library keeps what has been compiled in the
 * folder TIMEWARP_OPENCL_CACHE, and hands it out when the same source is to be compiled for the same device
 * again.
 *
 * OpenMM compiles everything with the same options in one process, so that the source tells programs apart.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

using namespace std;

#define EXPORTED __attribute__((visibility("default")))

// Of the OpenCL headers, which need not be installed.
using Handle = void*;
using Notify = void (*)(Handle, void*);
static const uint32_t CONTEXT_DEVICES = 0x1081, PROGRAM_BINARY_SIZES = 0x1165, PROGRAM_BINARIES = 0x1166;
static const uint32_t DEVICE_NAME = 0x102B, DRIVER_VERSION = 0x102D;

template <typename Function> static Function original(const char* name) {
    static void* library = dlopen("libOpenCL.so.1", RTLD_LAZY);
    return reinterpret_cast<Function>(dlsym(library, name));
}

static mutex pendingLock;
// The file for each program that was made from source and is not built yet.
static map<Handle, string> pending;

static string deviceInfo(Handle device, uint32_t what) {
    auto get = original<int32_t (*)(Handle, uint32_t, size_t, void*, size_t*)>("clGetDeviceInfo");
    char text[1024] = "";
    get(device, what, sizeof(text), text, nullptr);
    return text;
}

static string fileFor(const string& source, Handle device) {
    const char* options = getenv("CL_CONFIG_USE_VECTORIZER");
    string all = deviceInfo(device, DEVICE_NAME) + deviceInfo(device, DRIVER_VERSION) +
                 (options == nullptr ? "" : options) + source;
    uint64_t first = 14695981039346656037u, second = 88172645463325252u;
    for (unsigned char c : all) {
        first = (first ^ c) * 1099511628211u;
        second = (second + c) * 6364136223846793005u + 1442695040888963407u;
    }
    stringstream name;
    name << getenv("TIMEWARP_OPENCL_CACHE") << "/" << hex << first << second;
    return name.str();
}

extern "C" EXPORTED Handle clCreateProgramWithSource(Handle context, uint32_t count, const char** strings,
                                                     const size_t* lengths, int32_t* error) {
    auto fromSource = original<Handle (*)(Handle, uint32_t, const char**, const size_t*, int32_t*)>(__func__);
    auto contextInfo = original<int32_t (*)(Handle, uint32_t, size_t, void*, size_t*)>("clGetContextInfo");
    auto fromBinary =
            original<Handle (*)(Handle, uint32_t, const Handle*, const size_t*, const unsigned char**,
                                int32_t*, int32_t*)>("clCreateProgramWithBinary");
    Handle device;
    size_t size = 0;
    bool oneDevice = getenv("TIMEWARP_OPENCL_CACHE") != nullptr &&
                     contextInfo(context, CONTEXT_DEVICES, sizeof(device), &device, &size) == 0 &&
                     size == sizeof(device);
    if (!oneDevice)
        return fromSource(context, count, strings, lengths, error);
    string source;
    for (uint32_t i = 0; i < count; i++)
        source +=
                (lengths == nullptr || lengths[i] == 0 ? string(strings[i]) : string(strings[i], lengths[i]));
    string path = fileFor(source, device);
    ifstream file(path, ios::binary);
    if (file) {
        stringstream content;
        content << file.rdbuf();
        string binary = content.str();
        const auto* bytes = reinterpret_cast<const unsigned char*>(binary.data());
        size_t length = binary.size();
        int32_t status = 0, result = 0;
        Handle program = fromBinary(context, 1, &device, &length, &bytes, &status, &result);
        if (result == 0 && status == 0) {
            if (error != nullptr)
                *error = 0;
            return program;
        }
    }
    Handle program = fromSource(context, count, strings, lengths, error);
    lock_guard<mutex> guard(pendingLock);
    pending[program] = path;
    return program;
}

extern "C" EXPORTED int32_t clBuildProgram(Handle program, uint32_t numDevices, const Handle* devices,
                                           const char* options, Notify notify, void* data) {
    auto build = original<int32_t (*)(Handle, uint32_t, const Handle*, const char*, Notify, void*)>(__func__);
    auto info = original<int32_t (*)(Handle, uint32_t, size_t, void*, size_t*)>("clGetProgramInfo");
    int32_t result = build(program, numDevices, devices, options, notify, data);
    string path;
    {
        lock_guard<mutex> guard(pendingLock);
        auto found = pending.find(program);
        if (found == pending.end())
            return result;
        path = found->second;
        pending.erase(found);
    }
    size_t size = 0;
    if (result != 0 || info(program, PROGRAM_BINARY_SIZES, sizeof(size), &size, nullptr) != 0 || size == 0)
        return result;
    vector<unsigned char> binary(size);
    unsigned char* bytes = binary.data();
    if (info(program, PROGRAM_BINARIES, sizeof(bytes), &bytes, nullptr) != 0)
        return result;

    // Renamed when whole, since tests run side by side.

    string unfinished = path + "." + to_string(getpid());
    ofstream(unfinished, ios::binary).write(reinterpret_cast<char*>(bytes), size);
    rename(unfinished.c_str(), path.c_str());
    return result;
}
