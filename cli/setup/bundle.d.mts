export declare function bundle(): Promise<void>
export declare function bundleWorkers(): Promise<void>
