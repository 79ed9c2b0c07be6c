export declare function writePackages(out?: string): { apar: string; engine: string; workerd?: string }
