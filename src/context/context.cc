#include "context/context.h"
