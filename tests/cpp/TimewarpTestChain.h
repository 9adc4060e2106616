#ifndef TIMEWARP_TEST_CHAIN_H_
#define TIMEWARP_TEST_CHAIN_H_

#include "ProposalChain.h"
#include "TimewarpKernels.h"
#include "TimewarpTestUtilities.h"
#include "openmm/internal/ContextImpl.h"

using TimewarpPlugin::ChainSettings;
using TimewarpPlugin::ChainSurroundings;
using TimewarpPlugin::DeviceLoan;
using TimewarpPlugin::KeptMotions;
using TimewarpPlugin::ProposalChain;
using TimewarpPlugin::ProposalInputs;
using TimewarpPlugin::ProposalModel;
using TimewarpPlugin::SurrogateEnergy;
using TimewarpPlugin::TimewarpStateKernel;

/**
 * An Integrator around a chain class of the test's own, to plant faults in the chain and to look on.  Tests
 * put flows that keep the molecule's place into wells, and move it themselves.
 */
template <class Chain> class ChainIntegrator : public Integrator {
public:
    ChainIntegrator(const std::string& modelPath, int batchSize, int seed)
            : model(modelPath), batchSize(batchSize), seed(seed) {
        setStepSize(1.0);
    }
    void setSurrogate(const std::string& content, int length) {
        surrogate = std::make_unique<SurrogateEnergy>(content);
        subchainLength = length;
    }
    ProposalModel& getModel() {
        return model;
    }
    Chain& getChain() {
        return *chain;
    }
    DeviceLoan lendDevice() {
        return DeviceLoan(kernel.getAs<TimewarpStateKernel>(), *context);
    }
    void step(int steps) override {
        chain->run(*context,
                   {TEMPERATURE, batchSize, getIntegrationForceGroups(), getStepSize(), NULL, subchainLength},
                   steps);
    }

protected:
    /** Give the platform's kernel, or one around it. */
    virtual Kernel wrapped(const Kernel& kernel) {
        return kernel;
    }
    void initialize(ContextImpl& contextRef) override {
        context = &contextRef;
        owner = &contextRef.getOwner();
        ChainSurroundings surroundings;
        surroundings.particles.resize(contextRef.getSystem().getNumParticles());
        std::iota(surroundings.particles.begin(), surroundings.particles.end(), 0);
        surroundings.keptByOthers = [](ContextImpl&, const std::vector<Vec3>&, const DeviceLoan&) {
            return KeptMotions{false, false};
        };
        kernel = wrapped(contextRef.getPlatform().createKernel(TimewarpStateKernel::Name(), contextRef));
        kernel.getAs<TimewarpStateKernel>().initialize(contextRef.getSystem(), surroundings.particles);
        chain = std::make_unique<Chain>(model, kernel, seed, surroundings);
        chain->setSurrogate(surrogate.get());
    }
    void cleanup() override {
        chain.reset();
        kernel = Kernel();
    }
    std::vector<std::string> getKernelNames() override {
        return {TimewarpStateKernel::Name()};
    }
    double computeKineticEnergy() override {
        return chain->computeKineticEnergy(*context);
    }
    bool kineticEnergyRequiresForce() const override {
        return false;
    }

private:
    ProposalModel model;
    int batchSize, seed, subchainLength = 1;
    std::unique_ptr<SurrogateEnergy> surrogate;
    std::unique_ptr<Chain> chain;
    Kernel kernel;
};

#endif /*TIMEWARP_TEST_CHAIN_H_*/
