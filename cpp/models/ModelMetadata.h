#ifndef TIMEWARP_MODEL_METADATA_H_
#define TIMEWARP_MODEL_METADATA_H_

#include "internal/windowsExportTimewarp.h"
#include "openmm/System.h"
#include "openmm/Vec3.h"
#include <string>
#include <utility>
#include <vector>

namespace TimewarpPlugin {

/**
 * What a model says about itself (docs/contract.md).  Only the entries that the chain uses are kept.
 */
struct EXPORT_TIMEWARP ModelMetadata {
    /**
     * The contract version this library implements, and the archive member that holds the metadata.
     */
    static constexpr int contractVersion = 1;
    static constexpr const char* fileName = "timewarp_metadata.json";
    /**
     * Parse the JSON text.
     *
     * @param text     the text
     * @param origin   what to call the model in error messages
     */
    static ModelMetadata parse(const std::string& text, const std::string& origin);
    /**
     * Throw an exception if the model cannot sample these particles of a System.
     *
     * @param system     the System
     * @param particles  the particle that each atom of the model corresponds to
     * @param bonds      pairs of particles that the System's forces bond; empty if it declares none
     */
    void checkSystem(const OpenMM::System& system, const std::vector<int>& particles,
                     const std::vector<std::pair<int, int>>& bonds) const;
    /**
     * The lag time for a uniform deviate in (0, 1]: lag times are picked with probabilities in proportion to
     * the weights, which need not add up to 1.
     */
    double pickLag(double uniform, const std::vector<double>& weights) const;
    /**
     * The atoms that the model sees but leaves where they are, in ascending order.
     */
    std::vector<int> contextAtoms() const;
    /**
     * Describe an atom of the model for messages.
     */
    std::string describeAtom(int atom) const;

    std::string origin;
    bool anyMolecule = true;
    std::vector<std::string> atomNames;
    std::vector<double> masses;
    std::vector<std::pair<int, int>> bonds;
    /**
     * The atoms that proposals move, in ascending order: all of them unless the model says otherwise.  Empty
     * for a model of any molecule, which moves all.
     */
    std::vector<int> moved;
    /**
     * Bonds (atom, atom placed from it) whose lengths a proposal can keep, for Systems that constrain them.
     */
    std::vector<std::pair<int, int>> stretches;
    /**
     * Whether the model says which bonds these are.  Those made before models did cannot be used where bonds
     * of moved atoms are constrained.
     */
    bool namesStretches = false;
    int noiseSize = 0;
    /**
     * The numbers of the noise that make rotatable torsions, in ascending order, and whether the model says
     * which these are.
     */
    std::vector<int> torsionNoise;
    bool namesTorsionNoise = false;
    double temperature = 0;
    bool auxiliaryVelocities = true, doublePrecision = false;
    std::vector<double> lagTimes, lagWeights;
    std::vector<OpenMM::Vec3> referencePositions;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_MODEL_METADATA_H_*/
