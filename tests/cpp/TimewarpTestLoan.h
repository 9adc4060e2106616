#ifndef TIMEWARP_TEST_LOAN_H_
#define TIMEWARP_TEST_LOAN_H_

#include "OpenMM.h"
#include "TimewarpKernels.h"
#include "openmm/internal/ContextImpl.h"
#include <memory>
#include <numeric>
#include <string>
#include <vector>

/**
 * An Integrator that does nothing but lend the device of its Context's platform.
 */
class LendingIntegrator : public OpenMM::Integrator {
public:
    LendingIntegrator() {
        setStepSize(1.0);
    }
    TimewarpPlugin::DeviceLoan lendDevice() {
        return TimewarpPlugin::DeviceLoan(kernel.getAs<TimewarpPlugin::TimewarpStateKernel>(), *context);
    }
    int getModelDevice() {
        return kernel.getAs<TimewarpPlugin::TimewarpStateKernel>().getModelDevice();
    }
    void step(int) override {
    }

protected:
    void initialize(OpenMM::ContextImpl& contextRef) override {
        context = &contextRef;
        owner = &contextRef.getOwner();
        std::vector<int> particles(contextRef.getSystem().getNumParticles());
        std::iota(particles.begin(), particles.end(), 0);
        kernel = contextRef.getPlatform().createKernel(TimewarpPlugin::TimewarpStateKernel::Name(),
                                                       contextRef);
        kernel.getAs<TimewarpPlugin::TimewarpStateKernel>().initialize(contextRef.getSystem(),
                                                                       TimewarpPlugin::BlockAtoms(particles));
    }
    void cleanup() override {
        kernel = OpenMM::Kernel();
    }
    std::vector<std::string> getKernelNames() override {
        return {TimewarpPlugin::TimewarpStateKernel::Name()};
    }
    double computeKineticEnergy() override {
        return 0;
    }
    bool kineticEnergyRequiresForce() const override {
        return false;
    }

private:
    OpenMM::Kernel kernel;
};

/**
 * A Context of one particle whose device can be borrowed.
 */
struct LendingContext {
    explicit LendingContext(OpenMM::Platform& platform) {
        system.addParticle(1.0);
        context = std::make_unique<OpenMM::Context>(system, integrator, platform);
    }
    TimewarpPlugin::DeviceLoan lend() {
        return integrator.lendDevice();
    }
    OpenMM::System system;
    LendingIntegrator integrator;
    std::unique_ptr<OpenMM::Context> context;
};

#endif /*TIMEWARP_TEST_LOAN_H_*/
