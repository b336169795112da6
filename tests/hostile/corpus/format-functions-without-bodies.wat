;; trick: functions, and no code
;; end: refused 
(module binary "\00\61\73\6d\01\00\00\00\01\04\01\60\00\00\03\02\01\00")
