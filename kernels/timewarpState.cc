/*
 * TimewarpStateKernel on the device, in OpenMM's common compute language (CUDA, OpenCL, HIP).
 *
 * OpenMM keeps atoms in an order of its own: slot i of the device arrays holds particle atomIndex[i], and the
 * arrays are padded beyond NUM_ATOMS.  modelAtom[particle] is the place of a particle among the model's atoms,
 * or -1.  Arrays of this plugin are in the order of the model's atoms.
 *
 * MIXED is defined where a position is the sum of posq and posqCorrection.
 */

#ifdef MIXED
#define CORRECTION_ARG(name) GLOBAL real4* RESTRICT name,
#define WORDS_ARG(name) GLOBAL const unsigned int* RESTRICT name,
#else
#define CORRECTION_ARG(name)
#define WORDS_ARG(name)
#endif

#define FOR_EACH_MODEL_ATOM(slot, atom)                                                                      \
    for (int slot = GLOBAL_ID; slot < NUM_ATOMS; slot += GLOBAL_SIZE) {                                       \
        int atom = modelAtom[atomIndex[slot]];                                                                \
        if (atom < 0)                                                                                         \
            continue;
#define END_FOR_EACH }

/**
 * Gather the positions of the model's atoms.
 */
KERNEL void gatherPositions(GLOBAL const real4* RESTRICT posq, CORRECTION_ARG(posqCorrection)
        GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT modelAtom,
        GLOBAL mixed* RESTRICT positions) {
    FOR_EACH_MODEL_ATOM(slot, atom)
        real4 p = posq[slot];
#ifdef MIXED
        real4 c = posqCorrection[slot];
        positions[3*atom] = (mixed) p.x + (mixed) c.x;
        positions[3*atom+1] = (mixed) p.y + (mixed) c.y;
        positions[3*atom+2] = (mixed) p.z + (mixed) c.z;
#else
        positions[3*atom] = p.x;
        positions[3*atom+1] = p.y;
        positions[3*atom+2] = p.z;
#endif
    END_FOR_EACH
}

/**
 * Remember positions as they are stored.
 */
KERNEL void savePositions(GLOBAL const real4* RESTRICT posq, CORRECTION_ARG(posqCorrection)
        GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT modelAtom,
        CORRECTION_ARG(savedCorrection) GLOBAL real4* RESTRICT saved) {
    FOR_EACH_MODEL_ATOM(slot, atom)
        saved[atom] = posq[slot];
#ifdef MIXED
        savedCorrection[atom] = posqCorrection[slot];
#endif
    END_FOR_EACH
}

/**
 * Store a position.  The charge, in the fourth element, stays.
 */
DEVICE void storePosition(GLOBAL real4* posq, CORRECTION_ARG(posqCorrection) int slot, mixed x, mixed y, mixed z) {
    real4 p = posq[slot];
    p.x = (real) x;
    p.y = (real) y;
    p.z = (real) z;
    posq[slot] = p;
#ifdef MIXED
    posqCorrection[slot] = make_float4((float) (x-p.x), (float) (y-p.y), (float) (z-p.z), 0.0f);
#endif
}

/**
 * Put the remembered positions back bit for bit, or displaced where the atoms lie in another periodic image now.
 */
KERNEL void restorePositions(GLOBAL real4* RESTRICT posq, CORRECTION_ARG(posqCorrection)
        GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT modelAtom,
        CORRECTION_ARG(savedCorrection) GLOBAL const real4* RESTRICT saved,
        GLOBAL const mixed* RESTRICT displacements, int displaced) {
    FOR_EACH_MODEL_ATOM(slot, atom)
        real4 p = saved[atom];
        p.w = posq[slot].w;
#ifdef MIXED
        real4 c = savedCorrection[atom];
        if (displaced)
            storePosition(posq, posqCorrection, slot, (mixed) p.x+(mixed) c.x+displacements[3*atom],
                    (mixed) p.y+(mixed) c.y+displacements[3*atom+1], (mixed) p.z+(mixed) c.z+displacements[3*atom+2]);
        else {
            posq[slot] = p;
            posqCorrection[slot] = c;
        }
#else
        if (displaced)
            storePosition(posq, slot, p.x+displacements[3*atom], p.y+displacements[3*atom+1], p.z+displacements[3*atom+2]);
        else
            posq[slot] = p;
#endif
    END_FOR_EACH
}

/**
 * Write the token to mismatch[0] if a position is not bitwise the remembered one.  The coordinates are compared
 * as words, since optimised arithmetic need not tell NaN from other numbers.
 */
KERNEL void comparePositions(GLOBAL const unsigned int* RESTRICT posq, WORDS_ARG(posqCorrection)
        GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT modelAtom,
        WORDS_ARG(savedCorrection) GLOBAL const unsigned int* RESTRICT saved, GLOBAL int* RESTRICT mismatch, int token) {
    const int words = sizeof(real)/sizeof(unsigned int);
    FOR_EACH_MODEL_ATOM(slot, atom)
        for (int i = 0; i < 3*words; i++)
            if (posq[4*words*slot+i] != saved[4*words*atom+i])
                mismatch[0] = token;
#ifdef MIXED
        for (int i = 0; i < 3; i++)
            if (posqCorrection[4*slot+i] != savedCorrection[4*atom+i])
                mismatch[0] = token;
#endif
    END_FOR_EACH
}

/**
 * Move one of the proposals into the positions.
 */
KERNEL void applyProposal(GLOBAL real4* RESTRICT posq, CORRECTION_ARG(posqCorrection)
        GLOBAL const int* RESTRICT atomIndex, GLOBAL const int* RESTRICT modelAtom,
        GLOBAL const mixed* RESTRICT proposals, GLOBAL const mixed* RESTRICT displacements, int displaced, int proposal,
        int numModelAtoms) {
    FOR_EACH_MODEL_ATOM(slot, atom)
        int i = 3*(proposal*numModelAtoms+atom);
        mixed x = proposals[i], y = proposals[i+1], z = proposals[i+2];
        if (displaced) {
            x += displacements[3*atom];
            y += displacements[3*atom+1];
            z += displacements[3*atom+2];
        }
#ifdef MIXED
        storePosition(posq, posqCorrection, slot, x, y, z);
#else
        storePosition(posq, slot, x, y, z);
#endif
    END_FOR_EACH
}

/**
 * Turn auxiliary velocities into those of the particles.  The inverse mass, in the fourth element, stays.
 */
KERNEL void setVelocities(GLOBAL mixed4* RESTRICT velm, GLOBAL const int* RESTRICT atomIndex,
        GLOBAL const int* RESTRICT modelAtom, GLOBAL const float* RESTRICT velocities,
        GLOBAL const mixed* RESTRICT scales) {
    FOR_EACH_MODEL_ATOM(slot, atom)
        mixed4 v = velm[slot];
        mixed scale = scales[atom];
        v.x = (mixed) velocities[3*atom]*scale;
        v.y = (mixed) velocities[3*atom+1]*scale;
        v.z = (mixed) velocities[3*atom+2]*scale;
        velm[slot] = v;
    END_FOR_EACH
}
