#ifndef TIMEWARP_TORCH_MODULE_H_
#define TIMEWARP_TORCH_MODULE_H_

#include <map>
#include <mutex>
#include <string>
#include <torch/script.h>
#include <vector>

namespace TimewarpPlugin {

/**
 * A TorchScript file: the one place where such a file is read, checked and run.  Nothing of it runs before it
 * is known to be whole and, unless it is a trusted file (TrustedFiles.h), to do no more than arithmetic.
 */
class TorchModule {
public:
    /**
     * Read a module to the CPU.
     *
     * @param what      what to call it in messages: "the model steps.pt"
     * @param content   the bytes of the file
     */
    TorchModule(const std::string& what, const std::string& content);
    /**
     * Get the bytes of the file.
     */
    const std::string& getContent() const {
        return content;
    }
    /**
     * Get the SHA-256 digest of the content.
     */
    const std::string& getSha256() const;
    /**
     * Get the text that was stored in the file under a name; empty if there is none.
     */
    const std::string& getText(const std::string& name) const;
    bool hasMethod(const std::string& name) const;
    /**
     * Get where it runs, and where its results are.
     */
    torch::Device getDevice() const {
        return device;
    }
    /**
     * Load it anew on another device.
     */
    void moveTo(torch::Device newDevice);
    /**
     * Call a method.  Ctrl-C ends it with a ModelInterrupted.
     */
    c10::IValue call(const std::string& method, std::vector<c10::IValue> arguments);

private:
    void load();
    std::string what, content;
    /** Computed when it is asked for: it takes as long as most of the checks. */
    mutable std::string digest;
    mutable std::once_flag digestIsKnown;
    /** The archive that torch reads, of the members that were checked. */
    std::string checked;
    bool trusted;
    std::map<std::string, std::string> texts;
    torch::Device device;
    torch::jit::Module module;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_TORCH_MODULE_H_*/
