#ifndef TIMEWARP_FLOW_MODULE_H_
#define TIMEWARP_FLOW_MODULE_H_

#include "ModelMetadata.h"
#include "TorchModule.h"
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * The calls of the contract (docs/contract.md) of a model's TorchScript module, with their results checked
 * for type and shape.
 */
class FlowModule {
public:
    /**
     * Load a module on the CPU.
     *
     * @param path       what to call it in messages
     * @param content    the bytes of the TorchScript file
     * @param metadata   on exit, what the file says of the model
     */
    FlowModule(const std::string& path, const std::string& content, ModelMetadata& metadata);
    const std::string& getPath() const {
        return path;
    }
    /**
     * Get the bytes of the file.
     */
    const std::string& getContent() const {
        return module.getContent();
    }
    /**
     * Get the SHA-256 digest of the content.
     */
    const std::string& getSha256() const {
        return module.getSha256();
    }
    /**
     * Get where it runs, and where its results are.
     */
    torch::Device getDevice() const {
        return module.getDevice();
    }
    /**
     * Get the type of positions, velocities and noise.
     */
    torch::Dtype getType() const {
        return real;
    }
    int getNoiseSize() const {
        return noiseSize;
    }
    /**
     * Load it anew on another device.
     */
    void moveTo(torch::Device newDevice);
    /**
     * Set which bonds keep the length that they have in x, by their places among the model's stretches; none
     * to begin with.
     */
    void setKeptStretches(const std::vector<int>& indices);
    /**
     * Have what says which bonds are kept where the model runs.
     */
    void prepareKeptStretches();
    /**
     * Call sample(x, noise, lag), or sample_constrained(x, noise, lag, kept) where bonds are kept.
     */
    void sample(const torch::Tensor& x, const torch::Tensor& noise, const torch::Tensor& lag,
                torch::Tensor& y, torch::Tensor& w, torch::Tensor& logq);
    /**
     * Call log_prob(y, w, x, lag), or log_prob_constrained(y, w, x, lag, kept) where bonds are kept.
     */
    torch::Tensor logProb(const torch::Tensor& y, const torch::Tensor& w, const torch::Tensor& x,
                          const torch::Tensor& lag);
    /**
     * Call invert(y, w, x, lag).
     */
    torch::Tensor invert(const torch::Tensor& y, const torch::Tensor& w, const torch::Tensor& x,
                         const torch::Tensor& lag);
    /**
     * Throw an exception that says how the module breaks the contract.
     */
    [[noreturn]] void fail(const std::string& what) const;

private:
    c10::IValue call(const char* method, std::vector<c10::IValue> arguments);
    torch::Tensor checked(const c10::IValue& value, const char* what, torch::IntArrayRef shape,
                          torch::Dtype type) const;
    std::string path;
    int noiseSize, numStretches;
    /** [numStretches]; undefined if no bond is kept. */
    torch::Tensor kept;
    torch::Dtype real;
    TorchModule module;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_FLOW_MODULE_H_*/
