#ifndef TIMEWARP_TARGET_H_
#define TIMEWARP_TARGET_H_

#include "KnownState.h"
#include "RandomKey.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/internal/ContextImpl.h"
#include <cstdint>
#include <limits>
#include <vector>

namespace TimewarpPlugin {

/**
 * What a chain samples, exp(-U(x)/kT), at the state that the Context is in.  Nobody else asks the Context for
 * energies while a chain runs.
 *
 * States have numbers.  A move that finds another number than when it last looked must look again at the
 * positions of its own particles: the number changes with every accepted move, and with whatever happens
 * outside of the chain, dynamics and barostats included.
 */
class EXPORT_TIMEWARP Target {
public:
    /** What is known of the last change that was not the chain's own. */
    struct Change {
        std::int64_t number = 0;
        /** Whether Forces that change the state at steps of their own (barostats) have made it. */
        bool byForces = false;
        /** Whether the state has been loaded from a checkpoint or a State. */
        bool byLoading = false;
        /** Whether the energy is another. */
        bool ofEnergy = false;
    };
    /**
     * Say what is sampled from now on.
     *
     * @param temperature   in Kelvin
     * @param forceGroups   the force groups that make up the energy
     */
    void use(OpenMM::ContextImpl& context, double temperature, int forceGroups);
    /**
     * Say whose random numbers moves draw, apart from the thermodynamic state.
     */
    void setRandomNumbers(std::int64_t seed, std::int64_t replica, std::uint16_t chain);
    /**
     * Get the random numbers of a move.
     */
    RandomKey getRandomKey(std::uint16_t move) const;
    /**
     * Say how many tries of the move that comes next the state can last for at most: dynamics end it.  A move
     * whose tries are of several proposals says how many proposals.
     */
    void setLookAhead(int numTries) {
        lookAhead = numTries;
    }
    int getLookAhead() const {
        return lookAhead;
    }
    /**
     * Say how long the time steps of dynamics between tries are (ps); 0 if there are none.
     */
    void setTimeStep(double newTimeStep) {
        timeStep = newTimeStep;
    }
    double getTimeStep() const {
        return timeStep;
    }
    OpenMM::ContextImpl& getContext() const {
        return *context;
    }
    /**
     * Get the number of the thermodynamic state; see thermodynamicState().
     */
    std::uint64_t getThermodynamicState() const {
        return random.state;
    }
    double getTemperature() const {
        return temperature;
    }
    /**
     * Get the thermal energy (kJ/mol).
     */
    double getKT() const {
        return kT;
    }
    int getForceGroups() const {
        return forceGroups;
    }
    /**
     * Get the number of the current state.
     */
    std::int64_t getRevision() const {
        return revisions.get();
    }
    /**
     * Note that the state may be another, and by what.
     */
    void noteChange(bool byForces, bool byLoading);
    /**
     * Note that a move has corrected positions that others have left where no state can be.
     */
    void noteCorrection();
    /**
     * Compute the energy of the state after such a change.  Throws an exception if no move could be decided
     * from it.
     */
    void lookAtEnergy();
    const Change& getLastChange() const {
        return change;
    }
    /**
     * Get the energy of the current state (kJ/mol).
     */
    double getEnergy() const {
        return energy.value;
    }
    /**
     * Compute the energy of the positions that are in the Context now, a state's or a proposal's (kJ/mol).
     */
    double computeEnergy(bool withForces = false);
    /**
     * Get the forces on all particles in the current state (kJ/mol/nm), whose positions must be in the
     * Context.
     */
    const std::vector<OpenMM::Vec3>& getForces();
    /**
     * Get whether the forces that the Context holds are those of the current state.
     */
    bool contextHasForces() const {
        return forcesRevision == getRevision();
    }
    /**
     * Note that others may have used the Context.
     */
    void forgetForces() {
        forcesRevision = -1;
    }
    /**
     * The positions in the Context are the state now.
     *
     * @param newEnergy   their energy (kJ/mol)
     */
    void accept(double newEnergy);
    /**
     * Note the energy of the current state, which was accepted when it was not known (kJ/mol).
     */
    void noteEnergy(double newEnergy);
    /**
     * Return to an earlier state, whose positions are in the Context again.
     *
     * @param earlier         its number
     * @param earlierEnergy   its energy (kJ/mol)
     */
    void rollBack(std::int64_t earlier, double earlierEnergy);

private:
    OpenMM::ContextImpl* context = nullptr;
    double temperature = 0, kT = 0, timeStep = 0;
    int forceGroups = 0, lookAhead = std::numeric_limits<int>::max();
    RandomKeyParts random;
    Revisions revisions;
    Known<double> energy;
    /** The state whose forces the Context holds, or -1. */
    std::int64_t forcesRevision = -1;
    std::vector<OpenMM::Vec3> forces;
    Change change;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_TARGET_H_*/
