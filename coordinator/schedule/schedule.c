#include "coordinator/schedule/schedule.h"
