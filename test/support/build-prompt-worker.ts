import { bundleCommand } from '../../cli/setup/bundle.mjs'

/** The threads that encode prompts run from dist/, also in tests of the sources. */
export default bundleCommand
