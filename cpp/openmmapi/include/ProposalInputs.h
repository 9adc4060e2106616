#ifndef TIMEWARP_PROPOSAL_INPUTS_H_
#define TIMEWARP_PROPOSAL_INPUTS_H_

namespace TimewarpPlugin {

/**
 * The memory from which a model makes a batch of proposals.  It belongs to the model, and is where the model
 * runs: on the host, or on a CUDA device, where it is that device's.  The platform writes to it.  Numbers are
 * in the model's precision and the order of its atoms.
 */
struct ProposalInputs {
    /** Number of proposals. */
    int size = 0;
    /** Number of proposals that there is room for. */
    int capacity = 0;
    int numAtoms = 0;
    /** Number of standard normal deviates that the model makes a proposal of. */
    int noiseSize = 0;
    /** Whether numbers are doubles, or else floats. */
    bool isDouble = false;
    bool onDevice = false;
    /** Positions of the state (nm), N x 3. */
    void* positions = nullptr;
    /** Auxiliary velocities (dimensionless), size x N x 3. */
    void* velocities = nullptr;
    /** Standard normal deviates, size x noiseSize. */
    void* noise = nullptr;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PROPOSAL_INPUTS_H_*/
