export declare function bundle(): Promise<void>
export declare function bundleCommand(): Promise<void>
