#ifndef COMMON_TIMEWARP_KERNELS_H_
#define COMMON_TIMEWARP_KERNELS_H_

#include "TimewarpKernels.h"
#include "openmm/common/ComputeArray.h"
#include "openmm/common/ComputeContext.h"
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace TimewarpPlugin {

/**
 * The programs that the kernels of all blocks of a Context have in common, each compiled once.
 */
class SharedPrograms {
public:
    static std::shared_ptr<SharedPrograms> of(const OpenMM::ComputeContext& cc);
    OpenMM::ComputeProgram get(OpenMM::ComputeContext& cc, const std::string& source,
                               const std::map<std::string, std::string>& defines);

private:
    std::map<std::pair<std::string, std::map<std::string, std::string>>, OpenMM::ComputeProgram> programs;
};

/**
 * TimewarpStateKernel for the platforms of OpenMM's common compute framework (OpenCL, CUDA).  Positions,
 * velocities and the proposals of a batch stay on the device; kernels/timewarpState.cc moves them.
 *
 * In a periodic System OpenMM may store a molecule in another image than the one it is in, and remembers by
 * how many cells it is off (posCellOffsets).  What the chain sees are the true positions.
 */
class CommonTimewarpStateKernel : public TimewarpStateKernel {
public:
    CommonTimewarpStateKernel(const std::string& name, const OpenMM::Platform& platform,
                              OpenMM::ComputeContext& cc)
            : TimewarpStateKernel(name, platform), cc(cc) {
    }
    void initialize(const OpenMM::System& system, const BlockAtoms& atoms) override;
    void getPositions(OpenMM::ContextImpl& context, std::vector<OpenMM::Vec3>& positions) override;
    void savePositions(OpenMM::ContextImpl& context) override;
    void restorePositions(OpenMM::ContextImpl& context) override;
    bool positionsAreSaved(OpenMM::ContextImpl& context) override;
    void writeState(OpenMM::ContextImpl& context, const ProposalInputs& inputs,
                    const OpenMM::Vec3& origin) override;
    void drawNormals(OpenMM::ContextImpl& context, const ProposalInputs& inputs, const RandomKey& key,
                     std::int64_t firstIteration) override;
    void setProposals(OpenMM::ContextImpl& context, const std::vector<double>& positions,
                      const OpenMM::Vec3& origin) override;
    void applyProposal(OpenMM::ContextImpl& context, int proposal) override;
    void reorderAtoms(OpenMM::ContextImpl& context) override;
    void setVelocities(OpenMM::ContextImpl& context, const float* velocities, double kT) override;
    double computeKineticEnergy(OpenMM::ContextImpl& context) override;

    /**
     * Only for models that run on the Context's device, which are those of the CUDA platform.
     */
    void setDeviceProposals(OpenMM::ContextImpl& context, const void* positions, int size,
                            const OpenMM::Vec3& origin) override;

private:
    OpenMM::ComputeContext& cc;
    std::shared_ptr<SharedPrograms> programs;
    void createKernels();
    void createModelKernels(const ProposalInputs& inputs);
    void useModelMemory(OpenMM::ComputeKernel kernel, int index, OpenMM::ComputeArray& array, int size,
                        const ProposalInputs& inputs, void* address);
    void reserveProposals(int size);
    void uploadImages();
    void findDisplacements(const std::vector<OpenMM::mm_int4>& cells);
    void addStateArgs(OpenMM::ComputeKernel kernel, OpenMM::ComputeArray& places, bool saved);
    void initializePlaces(OpenMM::ComputeArray& array, int numParticles, const std::vector<int>& atoms,
                          const char* name);
    void initializeMixed(OpenMM::ComputeArray& array, int size, const char* name);
    void uploadMixed(OpenMM::ComputeArray& array, const double* values, int count);
    int useDisplacements(const std::vector<OpenMM::mm_int4>& cells);
    bool imagesMayDiffer();
    void findCells();

    std::vector<int> particles;
    std::vector<double> masses;
    int numModelAtoms = 0;
    /** Whether the arrays of type mixed hold doubles. */
    bool mixedIsDouble = false;
    bool hasSaved = false;
    int token = 0;
    double scalesKT = 0;

    /** The place of each particle among the model's atoms, or -1: of all of these, of those that are moved,
     * and of those that get new velocities. */
    OpenMM::ComputeArray modelAtom, movedAtom, redrawnAtom;
    OpenMM::ComputeArray positions, saved, savedCorrection, mismatch, proposals, displacements, velocities,
            scales;
    // What a model on the host is to get, and what images the atoms are stored in.
    OpenMM::ComputeArray modelState, modelVelocities, modelNoise, images;
    OpenMM::ComputeKernel gatherKernel, saveKernel, restoreKernel, compareKernel, applyKernel, velocityKernel;
    OpenMM::ComputeKernel stateKernel, normalsKernel, takeKernel;
    // Places among the arguments of those that change.
    int restoreDisplaced = 0, compareToken = 0, applyProposals = 0, applyDisplaced = 0, applyIndex = 0;

    // Host copies, kept so that nothing is allocated in a step.
    std::vector<float> floats;
    std::vector<double> doubles, uploadedDisplacements, uploadedImages;
    /** Where each of the model's atoms, and each particle, is in OpenMM's order. */
    std::vector<int> slots, slotOfParticle;
    /** By how many cells each of the model's atoms is stored off its position: now, when saved, and their
     * difference. */
    std::vector<OpenMM::mm_int4> cells, savedCells, cellChanges;
};

} // namespace TimewarpPlugin

#endif /*COMMON_TIMEWARP_KERNELS_H_*/
