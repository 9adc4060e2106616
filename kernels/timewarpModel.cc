/*
 * The inputs and results of a model: what needs double precision whatever that of the Context, so that it is the
 * same as on the host.
 *
 * MODEL_REAL is the type of the model's numbers.  The memory may be that of a model which runs on the same device
 * (CUDA, where a kernel can be given the address of any memory).
 */

/**
 * Compute a block of four random words (Philox 4x32-10, Salmon et al. 2011).  The counter is (block, stream, iteration).
 */
DEVICE void computeRandomBlock(unsigned int block, unsigned int stream, mm_ulong iteration, unsigned int key0,
        unsigned int key1, unsigned int* words) {
    unsigned int c0 = block, c1 = stream, c2 = (unsigned int) iteration, c3 = (unsigned int) (iteration>>32);
    for (int i = 0; i < 10; i++) {
        mm_ulong product0 = (mm_ulong) 0xD2511F53u*c0, product1 = (mm_ulong) 0xCD9E8D57u*c2;
        c0 = (unsigned int) (product1>>32)^c1^key0;
        c2 = (unsigned int) (product0>>32)^c3^key1;
        c1 = (unsigned int) product1;
        c3 = (unsigned int) product0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/**
 * Get a deviate of the uniform distribution on (0, 1].
 */
DEVICE double getUniform(unsigned int high, unsigned int low) {
    mm_ulong bits = ((mm_ulong) high<<21)|(low>>11);
    return ((double) bits+1.0)*(1.0/9007199254740992.0);
}

/**
 * Draw standard normal deviates for the iterations of a batch: velocities and noise, a row for each.  IterationNoise
 * says which blocks they are made of.  Each block gives a pair of deviates (Box-Muller), of which the last of a row
 * may need but one.
 */
KERNEL void drawNormals(GLOBAL MODEL_REAL* RESTRICT velocities, GLOBAL MODEL_REAL* RESTRICT noise, int size,
        int numVelocities, int numNoise, unsigned int key0, unsigned int key1, unsigned int stream,
        unsigned int iterationLow, unsigned int iterationHigh) {
    int velocityPairs = (numVelocities+1)/2, pairs = velocityPairs+(numNoise+1)/2;
    mm_ulong firstIteration = ((mm_ulong) iterationHigh<<32)|iterationLow;
    for (int index = GLOBAL_ID; index < size*pairs; index += GLOBAL_SIZE) {
        int row = index/pairs, pair = index-row*pairs;
        unsigned int words[4];
        computeRandomBlock(FIRST_NORMAL_BLOCK+pair, stream, firstIteration+row, key0, key1, words);
        double radius = sqrt(-2.0*log(getUniform(words[0], words[1])));
        double angle = 6.283185307179586477*getUniform(words[2], words[3]);
        bool isVelocity = (pair < velocityPairs);
        int rowSize = (isVelocity ? numVelocities : numNoise);
        int column = 2*(isVelocity ? pair : pair-velocityPairs);
        GLOBAL MODEL_REAL* values = (isVelocity ? velocities : noise)+row*rowSize;
        values[column] = (MODEL_REAL) (float) (radius*cos(angle));
        if (column+1 < rowSize)
            values[column+1] = (MODEL_REAL) (float) (radius*sin(angle));
    }
}

/**
 * Write the state from which the model makes proposals.
 *
 * @param positions     as they are stored, 3*numAtoms
 * @param images        by how much that is off where the atoms are, 3*numAtoms
 */
KERNEL void writeState(GLOBAL const mixed* RESTRICT positions, GLOBAL const double* RESTRICT images,
        GLOBAL MODEL_REAL* RESTRICT state, double originX, double originY, double originZ, int numAtoms) {
    for (int i = GLOBAL_ID; i < numAtoms; i += GLOBAL_SIZE) {
        state[3*i] = (MODEL_REAL) (positions[3*i]-images[3*i]-originX);
        state[3*i+1] = (MODEL_REAL) (positions[3*i+1]-images[3*i+1]-originY);
        state[3*i+2] = (MODEL_REAL) (positions[3*i+2]-images[3*i+2]-originZ);
    }
}

/**
 * Keep the proposals of a batch, which the model gives relative to an origin.  Added in double precision, and
 * then rounded once, as on the host.
 */
KERNEL void takeProposals(GLOBAL const MODEL_REAL* RESTRICT source, GLOBAL mixed* RESTRICT proposals, double originX,
        double originY, double originZ, int numAtoms) {
    for (int i = GLOBAL_ID; i < numAtoms; i += GLOBAL_SIZE) {
        proposals[3*i] = (mixed) (originX+source[3*i]);
        proposals[3*i+1] = (mixed) (originY+source[3*i+1]);
        proposals[3*i+2] = (mixed) (originZ+source[3*i+2]);
    }
}
