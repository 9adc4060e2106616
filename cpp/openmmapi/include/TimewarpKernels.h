#ifndef TIMEWARP_KERNELS_H_
#define TIMEWARP_KERNELS_H_

#include "BlockAtoms.h"
#include "ProposalInputs.h"
#include "TimewarpGraphRecorder.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/KernelImpl.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"
#include "openmm/System.h"
#include "openmm/Vec3.h"
#include "openmm/internal/ContextImpl.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

class RandomKey;

/**
 * What the chain needs of a platform: to move positions and velocities in and out of the Context, and to
 * compare them, for the atoms of one block.  The chain itself is the same on all of them.  Arrays are in
 * the order of the model's atoms.
 */
class EXPORT_TIMEWARP TimewarpStateKernel : public OpenMM::KernelImpl {
public:
    static std::string Name() {
        return "TimewarpState";
    }
    TimewarpStateKernel(const std::string& name, const OpenMM::Platform& platform)
            : OpenMM::KernelImpl(name, platform) {
    }
    /**
     * Initialize the kernel.
     *
     * @param system   the System this kernel will be applied to
     * @param atoms    the block's atoms
     */
    virtual void initialize(const OpenMM::System& system, const BlockAtoms& atoms) = 0;
    /**
     * Get the positions of the model's atoms (in nm).
     */
    virtual void getPositions(OpenMM::ContextImpl& context, std::vector<OpenMM::Vec3>& positions) = 0;
    /**
     * Remember the current positions.
     */
    virtual void savePositions(OpenMM::ContextImpl& context) = 0;
    /**
     * Put the remembered positions back, bit for bit.
     */
    virtual void restorePositions(OpenMM::ContextImpl& context) = 0;
    /**
     * Get whether the current positions are bitwise equal to the remembered ones.
     */
    virtual bool positionsAreSaved(OpenMM::ContextImpl& context) = 0;
    /**
     * Write the current positions of the model's atoms to the inputs of a batch.
     *
     * @param origin   what they are relative to there (in nm)
     */
    virtual void writeState(OpenMM::ContextImpl& context, const ProposalInputs& inputs,
                            const OpenMM::Vec3& origin);
    /**
     * Draw auxiliary velocities and the noise of which the model makes proposals, and write them to the
     * inputs of a batch.  They are the same on all platforms; see IterationNoise.
     *
     * @param key              whose random numbers they are
     * @param firstIteration   the iteration that the first of the proposals is for
     */
    virtual void drawNormals(OpenMM::ContextImpl& context, const ProposalInputs& inputs, const RandomKey& key,
                             std::int64_t firstIteration);
    /**
     * Take the proposals of a batch, which replace those before.
     *
     * @param positions   proposed positions, size x 3N, relative to the origin (in nm)
     * @param origin      the origin (in nm)
     */
    virtual void setProposals(OpenMM::ContextImpl& context, const std::vector<double>& positions,
                              const OpenMM::Vec3& origin) = 0;
    /**
     * Get the index of the CUDA device that the model should run on, or -1 if it should run on the CPU.
     */
    virtual int getModelDevice() const {
        return -1;
    }
    /**
     * Create what records the model's work on that device.  Throws an exception if it cannot.
     */
    virtual std::unique_ptr<TimewarpGraphRecorder> createGraphRecorder() const {
        throw OpenMM::OpenMMException("This platform cannot record the work of a model");
    }
    /**
     * Hand that device to the model; see DeviceLoan.
     */
    virtual void lendDevice(OpenMM::ContextImpl& context) {
    }
    /**
     * Take it back.
     */
    virtual void takeDeviceBack() {
    }
    /**
     * As setProposals(), from the memory of the model's device.
     *
     * @param positions   the address of size x 3N numbers of the same type as the inputs
     * @param size        the number of proposals
     */
    virtual void setDeviceProposals(OpenMM::ContextImpl& context, const void* positions, int size,
                                    const OpenMM::Vec3& origin) {
        throw OpenMM::OpenMMException("This platform takes proposals from the host only");
    }
    /**
     * Set the positions of the moved atoms to those of a proposal, rounded to the platform's precision.
     *
     * @param proposal   its index in the batch
     */
    virtual void applyProposal(OpenMM::ContextImpl& context, int proposal) = 0;
    /**
     * Let the platform sort its atoms anew, after they have moved for good.  Positions may change in
     * rounding.
     */
    virtual void reorderAtoms(OpenMM::ContextImpl& context) = 0;
    /**
     * Set the velocities of the atoms that get new ones.
     *
     * @param velocities  3*N auxiliary velocities (dimensionless)
     * @param kT          the thermal energy (in kJ/mol); velocities are scaled by sqrt(kT/m)
     */
    virtual void setVelocities(OpenMM::ContextImpl& context, const float* velocities, double kT) = 0;
    /**
     * Compute the kinetic energy (in kJ/mol).
     */
    virtual double computeKineticEnergy(OpenMM::ContextImpl& context) = 0;

private:
    std::vector<OpenMM::Vec3> hostPositions;
};

/**
 * Lends the device to the model for as long as it lives.
 */
class DeviceLoan {
public:
    DeviceLoan(TimewarpStateKernel& kernel, OpenMM::ContextImpl& context) : kernel(kernel) {
        kernel.lendDevice(context);
    }
    ~DeviceLoan() {
        kernel.takeDeviceBack();
    }
    DeviceLoan(const DeviceLoan&) = delete;
    DeviceLoan& operator=(const DeviceLoan&) = delete;

private:
    TimewarpStateKernel& kernel;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_KERNELS_H_*/
