import { locatePython } from '../../cli/train/environment/environment.ts'
import { requires } from './requires.ts'

const located = await locatePython({}).catch((error: Error) => error)

/** A Python with PyTorch: $APAR_PYTHON, or the environment that `apar train` has made. */
export const TRAINING_PYTHON = located instanceof Error ? 'python3' : located.python

/** Whether it is here; see {@link requires}. */
export const hasTrainingPython = requires(
  'the Python environment for training (node dist/apar.js train python makes it)',
  () => {
    if (located instanceof Error) throw located
    return located.isHere
  },
)
