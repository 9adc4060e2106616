#include "ModelMetadata.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using nlohmann::json;

// Force fields disagree on atomic weights by less than this (dalton); a repartitioned hydrogen by far more.
static const double MASS_TOLERANCE = 0.05;

static double parseLag(const json& entry) {
    if (entry.is_string() && entry.get<string>() == "inf")
        return numeric_limits<double>::infinity();
    return entry.get<double>();
}

static void parseMolecule(const json& content, ModelMetadata& metadata) {
    metadata.anyMolecule = false;
    metadata.masses = content.at("masses").get<vector<double>>();
    metadata.atomNames = content.at("atom_names").get<vector<string>>();
    for (const json& bond : content.at("bonds"))
        metadata.bonds.emplace_back(bond.at(0).get<int>(), bond.at(1).get<int>());
    int numAtoms = metadata.masses.size();
    if (numAtoms == 0 || metadata.atomNames.size() != metadata.masses.size())
        throw OpenMMException("masses and atom_names must be of one length, at least 1");
    for (auto& bond : metadata.bonds)
        if (bond.first < 0 || bond.first >= numAtoms || bond.second < 0 || bond.second >= numAtoms)
            throw OpenMMException("a bond names an atom that does not exist");
}

static void checkValues(const ModelMetadata& metadata) {
    if (metadata.noiseSize < 0)
        throw OpenMMException("noise_size is negative");
    if (!(isfinite(metadata.temperature) && metadata.temperature > 0))
        throw OpenMMException("temperature is not positive");
    if (metadata.lagTimes.empty() || metadata.lagTimes.size() != metadata.lagWeights.size())
        throw OpenMMException("lag_times and lag_weights must be of one length, at least 1");
    double sum = 0;
    for (size_t i = 0; i < metadata.lagTimes.size(); i++) {
        if (!(metadata.lagTimes[i] > 0))
            throw OpenMMException("a lag time is not positive");
        if (!(metadata.lagWeights[i] >= 0))
            throw OpenMMException("a lag weight is negative");
        sum += metadata.lagWeights[i];
    }
    if (fabs(sum - 1) > 1e-6)
        throw OpenMMException("lag_weights do not add up to 1");
    if (!metadata.anyMolecule && metadata.referencePositions.size() != metadata.masses.size())
        throw OpenMMException("reference_positions must hold one position for each atom");
}

ModelMetadata ModelMetadata::parse(const string& text, const string& origin) {
    try {
        json content = json::parse(text);
        int version = content.at("contract_version").get<int>();
        if (version != contractVersion)
            throw OpenMMException("it follows contract version " + to_string(version) +
                                  ", this plugin reads " + to_string(contractVersion) +
                                  "; export the model again");
        ModelMetadata metadata;
        metadata.origin = origin;
        metadata.noiseSize = content.at("noise_size").get<int>();
        metadata.temperature = content.at("temperature").get<double>();
        metadata.auxiliaryVelocities = content.value("auxiliary_velocities", true);
        string precision = content.value("precision", "single");
        if (precision != "single" && precision != "double")
            throw OpenMMException("precision must be \"single\" or \"double\"");
        metadata.doublePrecision = (precision == "double");
        for (const json& lag : content.at("lag_times"))
            metadata.lagTimes.push_back(parseLag(lag));
        metadata.lagWeights = content.at("lag_weights").get<vector<double>>();
        if (!content.at("molecule").is_null())
            parseMolecule(content.at("molecule"), metadata);
        if (content.contains("reference_positions") && !content.at("reference_positions").is_null())
            for (const json& p : content.at("reference_positions"))
                metadata.referencePositions.emplace_back(p.at(0).get<double>(), p.at(1).get<double>(),
                                                         p.at(2).get<double>());
        checkValues(metadata);
        return metadata;
    }
    catch (const json::exception& error) {
        throw OpenMMException("Timewarp: the metadata of " + origin + " are malformed: " + error.what());
    }
    catch (const OpenMMException& error) {
        throw OpenMMException("Timewarp: the metadata of " + origin + " cannot be used: " + error.what());
    }
}

string ModelMetadata::describeAtom(int atom) const {
    string description = "atom " + to_string(atom);
    if (!anyMolecule)
        description += " (" + atomNames[atom] + ")";
    return description;
}

double ModelMetadata::pickLag(double uniform, const vector<double>& weights) const {
    double target = uniform * accumulate(weights.begin(), weights.end(), 0.0), sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < lagTimes.size(); i++) {
        if (weights[i] == 0)
            continue;
        last = i;
        sum += weights[i];
        if (target <= sum)
            break;
    }
    return lagTimes[last];
}

static void checkParticle(const System& system, int particle) {
    if (system.isVirtualSite(particle))
        throw OpenMMException(
                "Timewarp: particle " + to_string(particle) +
                " is a virtual site, which has no density of its own; build the System with a force "
                "field without extra particles");
    if (system.getParticleMass(particle) == 0)
        throw OpenMMException(
                "Timewarp: particle " + to_string(particle) +
                " has no mass, so it cannot be moved; give it a mass, or restrain it with a force "
                "instead of freezing it");
}

static void checkConstraints(const System& system, const vector<int>& particles) {
    set<int> moved(particles.begin(), particles.end());
    for (int i = 0; i < system.getNumConstraints(); i++) {
        int particle1, particle2;
        double distance;
        system.getConstraintParameters(i, particle1, particle2, distance);
        if (moved.count(particle1) || moved.count(particle2))
            throw OpenMMException("Timewarp: the distance between particles " + to_string(particle1) +
                                  " and " + to_string(particle2) +
                                  " is constrained, which proposals cannot satisfy; build the System with "
                                  "constraints=None and rigidWater=False");
    }
}

void ModelMetadata::checkSystem(const System& system, const vector<int>& particles,
                                const vector<pair<int, int>>& systemBonds) const {
    if (!anyMolecule && particles.size() != masses.size()) {
        stringstream message;
        message << "Timewarp: the model " << origin << " moves " << masses.size()
                << " atoms but the System has " << particles.size()
                << " particles; use a model made for this molecule or, where it is one among others, pass "
                   "topology= of the whole System";
        throw OpenMMException(message.str());
    }
    set<int> seen;
    for (int particle : particles) {
        if (particle < 0 || particle >= system.getNumParticles())
            throw OpenMMException("Timewarp: setParticles() names particle " + to_string(particle) +
                                  ", which the System does not have");
        if (!seen.insert(particle).second)
            throw OpenMMException("Timewarp: setParticles() names particle " + to_string(particle) +
                                  " twice");
        checkParticle(system, particle);
    }
    checkConstraints(system, particles);
    if (anyMolecule)
        return;
    for (size_t i = 0; i < particles.size(); i++) {
        double mass = system.getParticleMass(particles[i]);
        if (fabs(mass - masses[i]) > MASS_TOLERANCE) {
            stringstream message;
            message << "Timewarp: particle " << particles[i] << " has mass " << mass << " but "
                    << describeAtom(i) << " of the model has " << masses[i]
                    << ": the molecule or its atom order is another one (pass topology= of "
                       "the whole System to match the order), "
                       "or "
                       "the System was built with hydrogen mass repartitioning (leave hydrogenMass out)";
            throw OpenMMException(message.str());
        }
    }
    if (systemBonds.empty())
        return;
    set<pair<int, int>> present;
    for (auto& bond : systemBonds)
        present.insert(minmax(bond.first, bond.second));
    for (auto& bond : bonds)
        if (!present.count(minmax(particles[bond.first], particles[bond.second])))
            throw OpenMMException(
                    "Timewarp: the model has a bond between " + describeAtom(bond.first) + " and " +
                    describeAtom(bond.second) +
                    " that the System lacks: the molecule or its atom order is another one (pass "
                    "topology= of the whole System to match the order)");
}
