;; trick: one function with 2^31 locals of each type
;; end: refused local
(module binary "\00\61\73\6d\01\00\00\00\01\04\01\60\00\00\03\02\01\00\07\0a\01\06\6f\6e\5f\68\69\74\00\00\0a\10\01\0e\02\ff\ff\ff\ff\07\7f\ff\ff\ff\ff\07\7e\0b")
