import type { BenchCase, SampleFile } from '../report.ts'

/** One attack on a running service, and what its other users notice of it. */
export type Attack = (quick: boolean, file: SampleFile) => Promise<BenchCase[]>
