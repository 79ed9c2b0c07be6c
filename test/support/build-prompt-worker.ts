import { bundleWorkers } from '../../cli/setup/bundle.mjs'

/** The thread that encodes prompts runs from dist/, also in tests of the sources. */
export default bundleWorkers
